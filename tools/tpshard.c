/* tpshard: the command line, and nothing else. */
#include "arguments.h"
#include "commands.h"
#include "error.h"
#include "program.h"
#include "interrupt.h"
#include "subcommand.h"
#include "version.h"

#include <stdio.h>

static const struct command *const commands[] = {
    &command_convert, &command_plan,    &command_inspect, &command_verify,
    &command_diff,    &command_reshard, &command_export,  &command_tokenizer,
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static const char *name_of(int i)
{
    return i < N_COMMANDS ? commands[i]->name : NULL;
}

static void print_help(FILE *out)
{
    fputs("usage: tpshard COMMAND ... (tpshard COMMAND --help tells more)\n\n", out);
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\ntpshard --version says which version this is\n", out);
}

static bool run(const struct command *command, int argc, char **argv, struct tp_error *err)
{
    struct options options;
    if (!options_parse(&options, command->id, argc, argv, err))
        return false;
    if (options.help) {
        fputs(command->help, stdout);
        return true;
    }
    if (!arguments_count(options.args, options.n_args, command->n_args, command->n_args,
                         command->args, err) ||
        !arguments_paths(options.args, options.n_args, err))
        return false;
    if (options.quiet)
        tp_hush_notes();
    if (command->grace_ms)
        interrupt_catch(command->grace_ms);
    return command->run(&options, err);
}

int main(int argc, char **argv)
{
    struct tp_error err = {0};
    program_start(TPSHARD);
    interrupt_catch(0);
    int which = subcommand_find(name_of, argc, argv, &err);
    if (which == SUBCOMMAND_NONE) {
        print_help(stderr);
        return TP_EXIT_USAGE;
    }
    if (which == SUBCOMMAND_WRONG)
        return tp_error_print(TPSHARD, &err);
    if (which == SUBCOMMAND_HELP)
        print_help(stdout);
    if (which == SUBCOMMAND_VERSION)
        version_print(TPSHARD);
    return program_end(which < 0 || run(commands[which], argc - 1, argv + 1, &err), &err);
}
