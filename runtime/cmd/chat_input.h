/* What people type: lines with editing and history on a terminal (libedit), plain lines from
 * anywhere else; several lines put together to one message.
 *
 * A line that ends in a backslash goes on on the next. A line that begins with """ begins a message
 * of several lines, up to one that ends in """.
 */
#pragma once
#include "chat_complete.h"
#include "text.h"

/* {0} is safe to close. */
struct chat_input {
    bool terminal;
    EditLine *editor;
    History *history;
    const char *history_path; /* NULL: in memory only */
    struct tp_text message;
    bool continued, cancelled;
    bool empty;  /* what was cancelled */
    bool warned; /* so was the line before: that a second time leaves was said */
    const struct chat_command *commands;
    const _Atomic int *interrupted;
};

enum chat_read {
    CHAT_READ_MESSAGE,
    CHAT_READ_CANCELLED, /* Ctrl-C: what was typed is dropped */
    CHAT_READ_END,       /* Ctrl-D, or a second Ctrl-C at an empty line */
    CHAT_READ_FAILED,
};

/* Reads standard input. history_path: read now, written at close; TP_E_OUTPUT_EXISTS: it is
 * another file. commands: what Tab knows. interrupted: set by a signal that ends a read,
 * TP_E_INTERRUPTED. */
bool chat_input_open(struct chat_input *input, const char *history_path,
                     const struct chat_command *commands, const _Atomic int *interrupted,
                     struct tp_error *err);
/* The next message, in input->message; *command: it is one line, not quoted. */
enum chat_read chat_input_read(struct chat_input *input, bool *command, struct tp_error *err);
void chat_input_close(struct chat_input *input);
