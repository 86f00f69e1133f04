/* tprun: run a bundle. Subcommands and exit codes, nothing else. */
#include "cmd.h"

#include "program.h"
#include "interrupt.h"
#include "run_help.h"
#include "subcommand.h"
#include "version.h"
#include <stdio.h>

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
                            "tprun help COMMAND says more, tprun --version which version this is\n";

static const char *name_of(int i)
{
    return i < (int)(sizeof commands / sizeof *commands) ? commands[i].name : NULL;
}

static bool run_command(int which, int argc, char **argv, struct report *report,
                        struct tp_error *err)
{
    struct run_options options;
    if (!run_options_parse(&options, commands[which].id, argc, argv, err))
        return false;
    if (options.help) {
        fputs(run_help(commands[which].id), stdout);
        return true;
    }
    if (options.report.quiet || options.report.json) /* JSON stands alone */
        tp_hush_notes();
    interrupt_catch(commands[which].grace_ms);
    return commands[which].run(&options, report, err);
}

int main(int argc, char **argv)
{
    struct report report;
    struct tp_error err = {0};
    report_start(&report);
    program_start("tprun");
    int which = subcommand_find(name_of, argc, argv, &err);
    if (which == SUBCOMMAND_NONE) {
        fputs(usage, stderr);
        return TP_EXIT_USAGE;
    }
    if (which == SUBCOMMAND_WRONG)
        return tp_error_print("tprun", &err);
    if (which == SUBCOMMAND_HELP)
        fputs(usage, stdout);
    if (which == SUBCOMMAND_VERSION)
        version_print("tprun");
    return program_end(which < 0 || run_command(which, argc - 1, argv + 1, &report, &err), &err);
}
