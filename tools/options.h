/* Command lines of tpshard: one table of options, one struct, shared by the subcommands. */
#pragma once
#include "error.h"
#include "rank_plan.h"
#include <stdbool.h>
#include <stdint.h>

enum command_id {
    COMMAND_CONVERT = 1,
    COMMAND_PLAN = 2,
    COMMAND_INSPECT = 4,
    COMMAND_VERIFY = 8,
    COMMAND_DIFF = 16,
    COMMAND_RESHARD = 32,
    COMMAND_EXPORT = 64,
    COMMAND_TOKENIZER = 128,
};
enum { OPTIONS_TP_LIST_MAX = 48, OPTIONS_IGNORE_MAX = 16, OPTIONS_ARGS_MAX = 4 };

struct options {
    const char *args[OPTIONS_ARGS_MAX]; /* what is no option */
    int n_args;
    const char *output;               /* -o */
    uint64_t tp[OPTIONS_TP_LIST_MAX]; /* --tp N, or for plan a list */
    int n_tp;
    const struct stored *quant; /* --quant, --group, --offset; NULL: none */
    enum dtype dtype;           /* DTYPE_NONE: keep */
    enum compress compress;
    uint64_t memory;        /* --mem, bytes */
    uint64_t gpu_memory;    /* --gpu-mem, bytes; 0: not given */
    double memory_fraction; /* --mem-fraction: what may be planned of it; 0: not given */
    uint64_t layers;        /* --layers: the first of the model's; 0: all */
    uint64_t context, batch;
    int threads;
    const char *against; /* verify --against */
    const char *ignore_keys[OPTIONS_IGNORE_MAX];
    int n_ignore_keys;
    bool no_selftest, force, restart, follow_links, strict, dry_run, json, quiet, verbose, tensors;
    bool help;
};

/* What convert and plan say of --quant. */
/* clang-format off */
#define OPTIONS_QUANT_HELP                                                                         \
    "      --quant none|int8|fp8|int4  weight-only (default none); int8, fp8: a scale for each "   \
    "row\n"                                                                                        \
    "      --group 32|64|128        int4: columns that share a scale (default 128)\n"              \
    "      --offset none|zero|min   int4: a group has a scale alone (default), an integer zero\n"  \
    "                               too, or a minimum too\n"
/* clang-format on */

/* argv[0] is the subcommand's name. TP_E_USAGE, TP_E_UNSUPPORTED (a value planned for later),
 * TP_E_TP_RANGE. */
bool options_parse(struct options *options, enum command_id command, int argc, char **argv,
                   struct tp_error *err);
