/* clang-format off */
/* The staging folder OUTPUT.partial: where an output is made, ours by proof.
 *
 *   names     log: what is made here (run, inputs), and every name that may be made (journal.h).
 *             The first thing in the folder, and its lock. Before publishing it takes the name
 *             `journal`
 *   journal   convert's and reshard's log of chunks that are safe
 *   raw/      rank files before compression
 *   ...       the files of the output
 *
 * A name is listed, and the list synced, before it is made. With it stands a proof: the hash of its
 * first bytes. A large file begins with a stamp until it is complete, so that it proves itself
 * whatever else is there by then; a small one is complete. Both are made without a name, and get it
 * when they prove themselves. Only a listed name whose proof holds, and that is the file's one
 * name, is ever written to or deleted; any other is somebody's: TP_E_FOREIGN.
 */
/* clang-format on */
#pragma once
#include "bundle.h"
#include "journal.h"
#include "place.h"

enum { STAGE_STAMP = 64 }; /* bytes: no file that is stamped may be shorter */
#define STAGE_JOURNAL "journal"

struct named_bytes {
    const char *name;
    const void *data;
    uint64_t size;
};

struct stage_run {       /* what an output is made from, and how: a staging folder serves one */
    struct hash128 hash; /* of everything that decides the bytes, but the inputs' values */
    const struct named_bytes *inputs; /* of each what must not change */
    uint32_t n_inputs;
    bool restart; /* begin anew, whatever is found */
};

enum stage_proof {
    STAGE_STAMPED, /* it begins with a stamp until its head is written */
    STAGE_HEAD,    /* it begins with data, n bytes */
    STAGE_WHOLE,   /* it is data, n bytes */
    STAGE_LOG,     /* it is a journal */
    STAGE_OWN,     /* a file whose name proves it: nobody could think of it */
    STAGE_FOLDER,  /* no file at all */
};

/* Where a file is: in the folder, or in a folder in it. */
enum stage_where {
    STAGE_TOP = 0,
    STAGE_RAW = 1,       /* raw/ */
    STAGE_TEMPLATES = 2, /* TEMPLATES_FOLDER/, of an export: it is published */
    STAGE_WHERES
};

struct stage_file { /* a name and its proof */
    const char *name;
    enum stage_proof proof;
    const void *data;
    uint64_t n;
    enum stage_where where;
};

#define STAGE_CLOSED .dir.fd = -1, .raw.fd = -1, .templates.fd = -1, .log.fd = -1
struct stage {
    const struct place *place;
    struct folder dir, raw, templates; /* the two latter: fd -1 until stage_make_folder */
    struct journal log;
    struct hash128 run;
    struct stage_name *names; /* [n_names] */
    size_t n_names, names_cap;
    bool folded;              /* the log has the name `journal` */
    bool made;                /* an earlier run made everything: */
    struct hash128 made_hash; /* of its manifest */
};

/* Open or make it, and lock it. A run that is found goes on. Errors TP_E_FOREIGN: the name is taken
 * by what is not ours, or something in it is not; nothing was touched. TP_E_LOCKED. TP_E_JOURNAL:
 * the log is damaged. TP_E_JOURNAL_OTHER: it serves another run. TP_E_CHANGED: an input is another
 * than before. With run->restart the two latter are begun anew, and what was made is gone. */
bool stage_open(struct stage *stage, const struct place *place, const struct stage_run *run,
                struct tp_error *err);
/* Delete what an earlier run of the same made. */
bool stage_begin_again(struct stage *stage, const struct stage_run *run, struct tp_error *err);
void stage_close(struct stage *stage); /* {STAGE_CLOSED} may be closed */
/* Nothing of it is of use to a later run: delete it. Best effort. */
void stage_discard(struct stage *stage);

/* List names before they are made, or what a stamped one is going to begin with. One sync for
 * all. */
bool stage_list(struct stage *stage, const struct stage_file *files, uint32_t n,
                struct tp_error *err);
bool stage_make_folder(struct stage *stage, enum stage_where where, struct tp_error *err);
/* A stamped file of `size` bytes, listed: made, or found. One that is found complete must not be
 * written to. Returns its descriptor, -1 on error. */
enum stage_found { STAGE_MADE, STAGE_UNFINISHED, STAGE_COMPLETE };
int stage_file_open(struct stage *stage, const char *name, enum stage_where where, uint64_t size,
                    enum stage_found *found, struct tp_error *err);
/* Its head over the stamp: the rest first, so that the proof speaks of all of it. */
bool stage_file_finish(struct stage *stage, const char *name, enum stage_where where, int fd,
                       const unsigned char *head, uint64_t n, struct tp_error *err);
/* A small file, listed with all its bytes. One that is there with others is written again where it
 * is ours. */
bool stage_put(struct stage *stage, const char *name, enum stage_where where, const void *data,
               uint64_t n, struct tp_error *err);
/* Delete a listed file, if it is there. */
bool stage_remove(struct stage *stage, const char *name, enum stage_where where,
                  struct tp_error *err);
bool stage_remove_raw(struct stage *stage,
                      struct tp_error *err); /* with all that is listed in it */
/* The listed file of that name is as it is now, made or checked in this run. stage_hold_log: it
 * grows. */
bool stage_hold(struct stage *stage, const char *name, int fd, struct tp_error *err);
bool stage_hold_log(struct stage *stage, const char *name, struct tp_error *err);
/* Everything is there and synced, and the manifest has this hash. Syncs the names. */
bool stage_set_made(struct stage *stage, struct hash128 manifest, struct tp_error *err);
/* Before publishing: every name in the folder is one that stage_put or stage_hold saw in this run,
 * and still that file, unchanged. The log takes the name `journal`. */
bool stage_seal(struct stage *stage, struct tp_error *err);
/* That look once more, once published: nobody came in between. */
bool stage_check(struct stage *stage, struct tp_error *err);

/* The log of a folder that was published and not tidied, and the hash of the manifest that it was
 * published with. *found false, without error: there is none. TP_E_LOCKED: somebody is at it. */
bool stage_find_log(const struct folder *dir, struct journal *log, bool *found,
                    struct hash128 *manifest, struct tp_error *err);
/* An input that the log has otherwise: TP_E_CHANGED names it, and says what to do. */
bool stage_inputs_equal(const struct journal *log, const struct stage_run *run, const char *advice,
                        struct tp_error *err);
