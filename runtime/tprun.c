/* tprun: run a bundle. Subcommands and exit codes, nothing else. */
#include "cmd.h"

#include "program.h"
#include "interrupt.h"
#include "run_help.h"
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    enum run_command id;
    bool (*run)(const struct run_options *options, struct report *report, struct tp_error *err);
    int grace_ms; /* to end a step after a signal */
} commands[] = {
    {"generate", RUN_GENERATE, cmd_generate, INTERRUPT_GRACE_MS},
    {"chat", RUN_CHAT, cmd_chat, 0},
    {"logits", RUN_LOGITS, cmd_logits, INTERRUPT_GRACE_MS},
    {"selftest", RUN_SELFTEST, cmd_selftest, 0},
    {"tokenize", RUN_TOKENIZE, cmd_tokenize, 0},
    {"render", RUN_RENDER, cmd_render, 0},
    {"info", RUN_INFO, cmd_info, 0},
};

static const char usage[] = "usage: tprun COMMAND BUNDLE [options]\n"
                            "  generate   continue prompts\n"
                            "  chat       talk with the model\n"
                            "  logits     write the logits of every prompt position\n"
                            "  selftest   replay the bundle's fixed prompts\n"
                            "  tokenize   text to token ids and back\n"
                            "  render     render a chat template over JSON lines\n"
                            "  info       what this machine has to run on\n"
                            "tprun COMMAND --help says more\n";

static bool run_command(int argc, char **argv, struct report *report, struct tp_error *err)
{
    struct run_options options;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        if (!run_options_parse(&options, commands[i].id, argc - 1, argv + 1, err))
            return false;
        if (options.help) {
            fputs(run_help(commands[i].id), stdout);
            return true;
        }
        if (commands[i].id != RUN_CHAT) /* Ctrl-C stops an answer there */
            interrupt_catch(commands[i].grace_ms);
        return commands[i].run(&options, report, err);
    }
    char name[TP_NAME_BUF];
    return tp_fail(err, TP_E_USAGE, "unknown command \"%s\", tprun --help lists them",
                   tp_name_cut(name, argv[1], strlen(argv[1])));
}

int main(int argc, char **argv)
{
    struct report report;
    struct tp_error err = {0};
    report_start(&report);
    program_start("tprun");
    if (argc < 2) {
        fputs(usage, stderr);
        return TP_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(usage, stdout);
        return program_end(true, &err);
    }
    return program_end(run_command(argc, argv, &report, &err), &err);
}
