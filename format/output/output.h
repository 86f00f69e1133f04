/* Outputs: what a command writes appears whole under its name or not at all, and nothing that this
 * program did not make is removed, overwritten or published, whatever the options.
 *
 * A folder (convert, reshard, export):
 *
 *   output_decide   before any work: where it goes, and whether it may. No byte is written
 *   output_open     what an earlier run left is brought to its end; what stands in the way is read
 * and named;                   OUTPUT.partial is opened and locked (stage.h)
 *   ...             the caller makes files there, by stage_*
 *   output_publish  OUTPUT.partial gets the name OUTPUT, in one step, where nobody is in the way
 *
 *   state of the two names                       who may delete what
 *   OUTPUT.partial, log `names`                  its own run, or one with restart: what the log
 * lists and                                                what proves itself
 *   OUTPUT.partial, log `journal`: all is made   the same
 *   OUTPUT, log `journal`: published             any next command: the log; of the old folder,
 * which has   (OUTPUT.partial: the old folder)             exchanged its name, what the old
 * manifest names and gives   OUTPUT                                       nobody; with force it is
 * exchanged, never changed
 *
 * What is in the old folder and not of it, or edited, moves into the new one under its name.
 *
 * A single file (output_file.h) has no name until it is complete, then takes its own by rename.
 */
#pragma once
#include "owned.h"
#include "room.h"
#include "stage.h"

/* clang-format off */
struct output {
    struct place place;
    struct owned old;     /* what is there and will be replaced; .folder.fd -1: nothing */
    struct stage stage;
    struct room room;     /* when it was opened */
    const char *input;    /* the folder that is read */
    bool force;
    int threads;
};
/* clang-format on */
#define OUTPUT_CLOSED                                                                              \
    {                                                                                              \
        .place.parent.fd = -1, .old.folder.fd = -1, .old.templates.fd = -1, .stage = {             \
            STAGE_CLOSED                                                                           \
        }                                                                                          \
    }

/* path: -o. input: the folder that is read, borrowed. Errors TP_E_OUTPUT_EXISTS, with what to do:
 * what is there can never be replaced, or may not be without force. Afterwards, as before
 * (OUTPUT_CLOSED), it may be closed. */
bool output_decide(struct output *output, const char *path, const char *input, bool force,
                   int threads, struct tp_error *err);
/* names: all files of the output. bytes: what OUTPUT.partial takes when it is fullest. *done: an
 * earlier run had published it, and only tidying was left; it is complete. Errors TP_E_IO: there is
 * no room for it, and nothing was made; TP_E_OUTPUT_EXISTS, also where a file in the old folder is
 * read, or is not ours and has a new name or cannot move; TP_E_CHANGED: an input or the published
 * output is another than it was; those of stage_open. */
bool output_open(struct output *output, const struct stage_run *run, const char *const *names,
                 uint32_t n_names, uint64_t bytes, bool *done, struct tp_error *err);
/* Everything is made and synced; manifest: its hash. Errors TP_E_OUTPUT_EXISTS: something else has
 * the name by now, the staging folder is kept; TP_E_FOREIGN: something in it is not ours, or a file
 * of the old folder could not be moved; TP_E_IO. */
bool output_publish(struct output *output, struct hash128 manifest, struct tp_error *err);
void output_close(struct output *output);
