/* tpshard: the command line, and nothing else. */
#include "commands.h"
#include "error.h"
#include "interrupt.h"
#include "io.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"convert", command_convert, "a Hugging Face folder to a bundle of per-rank files"},
    {"plan", command_plan, "what a model needs at every degree, from config.json alone"},
    {"inspect", command_inspect, "what a bundle holds"},
    {"verify", command_verify, "every byte and every hash; --against: every value of a checkpoint"},
    {"diff", command_diff, "what differs between two bundles"},
    {"reshard", command_reshard, "a bundle to another degree, without the checkpoint"},
    {"export", command_export, "a bundle back to a Hugging Face folder"},
    {"tokenizer", command_tokenizer, "a folder's tokenizer, compiled, alone"},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *out)
{
    fputs("usage: tpshard COMMAND ... (tpshard COMMAND --help tells more)\n\n", out);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
}

/* Output that could not be written is an I/O error, however far it got. */
static int flushed(int status)
{
    struct tp_error err = {0};
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        interrupt_off(status);
        return status;
    }
    tp_fail_errno(&err, "standard output");
    return status ? status : tp_error_print(TPSHARD, &err);
}

int main(int argc, char **argv)
{
    struct tp_error err = {0};
    io_start(TPSHARD);
    interrupt_catch(TPSHARD, 0);
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        print_help(stdout);
        return flushed(TP_EXIT_OK);
    }
    if (argc < 2) {
        print_help(stderr);
        return TP_EXIT_USAGE;
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return flushed(commands[i].run(argc - 1, argv + 1));
    tp_fail(&err, TP_E_USAGE, "%.64s: no such command (tpshard --help lists them)", argv[1]);
    return tp_error_print(TPSHARD, &err);
}
