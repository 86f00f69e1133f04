/* tpshard: the command line, and nothing else. */
#include "commands.h"
#include "error.h"
#include "program.h"
#include "interrupt.h"
#include "io.h"

#include <stdio.h>
#include <string.h>

static const struct command *const commands[] = {
    &command_convert, &command_plan,    &command_inspect, &command_verify,
    &command_diff,    &command_reshard, &command_export,  &command_tokenizer,
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *out)
{
    fputs("usage: tpshard COMMAND ... (tpshard COMMAND --help tells more)\n\n", out);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
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
    if (options.n_args != command->n_args)
        return tp_fail(err, TP_E_USAGE, "%d arguments given, %s expected", options.n_args,
                       command->args);
    if (command->grace_ms)
        interrupt_catch(command->grace_ms);
    return command->run(&options, err);
}

int main(int argc, char **argv)
{
    struct tp_error err = {0};
    program_start(TPSHARD);
    interrupt_catch(0);
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        print_help(stdout);
        return program_end(true, &err);
    }
    if (argc < 2) {
        print_help(stderr);
        return TP_EXIT_USAGE;
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[1], commands[i]->name) == 0)
            return program_end(run(commands[i], argc - 1, argv + 1, &err), &err);
    tp_fail(&err, TP_E_USAGE, "%.64s: no such command (tpshard --help lists them)", argv[1]);
    return tp_error_print(TPSHARD, &err);
}
