#include "subcommand.h"

#include "arguments.h"
#include "guess.h"
#include <string.h>

static bool is_help(const char *word)
{
    return strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* At most so many words follow the first. */
static bool more(char **argv, int argc, int most, struct tp_error *err)
{
    return arguments_count((const char *const *)argv + 2, argc - 2, 0, most, NULL, err);
}

/* The program whose command it is, of those that the asking one lacks. */
static const char *program_of(const char *word)
{
    static const struct {
        const char *command, *program;
    } all[] = {
        {"convert", "tpshard"},   {"plan", "tpshard"},   {"inspect", "tpshard"},
        {"verify", "tpshard"},    {"diff", "tpshard"},   {"reshard", "tpshard"},
        {"export", "tpshard"},    {"generate", "tprun"}, {"chat", "tprun"},
        {"logits", "tprun"},      {"selftest", "tprun"}, {"tokenize", "tprun"},
        {"tokenizer", "tpshard"}, {"render", "tprun"},   {"info", "tprun"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(word, all[i].command) == 0)
            return all[i].program;
    return NULL;
}

int subcommand_find(const char *(*name)(int i), int argc, char **argv, struct tp_error *err)
{
    static char help[] = "--help";
    char shown[TP_NAME_BUF];
    if (argc < 2)
        return SUBCOMMAND_NONE;
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return more(argv, argc, 0, err) ? SUBCOMMAND_VERSION : SUBCOMMAND_WRONG;
    if (is_help(argv[1])) {
        if (!more(argv, argc, 1, err))
            return SUBCOMMAND_WRONG;
        if (argc == 2 || is_help(argv[2]))
            return SUBCOMMAND_HELP;
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
    const char *program = program_of(argv[1]);
    if (program)
        tp_fail(err, TP_E_USAGE, "%s: a command of %s", shown, program);
    else if (guess.word)
        tp_fail(err, TP_E_USAGE, "%s: no such command; did you mean %s?", shown, guess.word);
    else
        tp_fail(err, TP_E_USAGE, "%s: no such command (--help lists them)", shown);
    return SUBCOMMAND_WRONG;
}
