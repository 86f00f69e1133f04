/* Which subcommand a command line asks for: the first word of both programs. */
#pragma once
#include "error.h"

enum {
    SUBCOMMAND_NONE = -1,   /* nothing is asked for */
    SUBCOMMAND_HELP = -2,   /* --help, -h or help alone */
    SUBCOMMAND_WRONG = -3,  /* TP_E_USAGE: no such command, or words too many */
    SUBCOMMAND_VERSION = -4 /* --version, -V */
};
/* The number of the command, name(0), name(1) ... NULL; else one of the above. "help NAME" becomes
 * "NAME --help" in argv. */
int subcommand_find(const char *(*name)(int i), int argc, char **argv, struct tp_error *err);
