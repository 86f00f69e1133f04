#include "subcommand.h"

#include "arguments.h"
#include "guess.h"
#include <string.h>

static bool is_help(const char *word)
{
    return strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

int subcommand_find(const char *(*name)(int i), int argc, char **argv, struct tp_error *err)
{
    static char help[] = "--help";
    char shown[TP_NAME_BUF];
    if (argc < 2)
        return SUBCOMMAND_NONE;
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return SUBCOMMAND_VERSION;
    if (is_help(argv[1])) {
        if (argc == 2 || is_help(argv[2]))
            return SUBCOMMAND_HELP;
        if (!arguments_count((const char *const *)argv + 2, argc - 2, 0, 1, NULL, err))
            return SUBCOMMAND_WRONG;
        argv[1] = argv[2];
        argv[2] = help;
    }
    struct guess guess = guess_of(argv[1], strlen(argv[1]));
    for (int i = 0; name(i); i++) {
        if (strcmp(argv[1], name(i)) == 0)
            return i;
        guess_offer(&guess, name(i));
    }
    tp_name_cut(shown, argv[1], strlen(argv[1]));
    if (guess.word)
        tp_fail(err, TP_E_USAGE, "%s: no such command; did you mean %s?", shown, guess.word);
    else
        tp_fail(err, TP_E_USAGE, "%s: no such command (--help lists them)", shown);
    return SUBCOMMAND_WRONG;
}
