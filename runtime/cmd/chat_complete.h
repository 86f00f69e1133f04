/* The commands of a conversation, and what Tab does with them in a line that is typed: their names
 * go on, and names of files after those that take one; elsewhere it is a tab. */
#pragma once
#include "io.h"
#include <histedit.h>

struct talk; /* what runs them */
enum chat_takes { CHAT_TAKES_NOTHING, CHAT_TAKES_TEXT, CHAT_TAKES_FILE };
struct chat_command {
    const char *name; /* without the slash; NULL ends a list */
    enum chat_takes takes;
    bool (*run)(struct talk *talk, const char *rest, struct tp_error *err);
};

/* The path that a command is given: ~/ is what it is to a shell. TP_E_LIMIT. */
bool chat_path(const char *given, char path[IO_PATH_MAX], struct tp_error *err);
/* Returns what a function of libedit's does. */
unsigned char chat_complete(EditLine *editor, const struct chat_command *commands);
