/* Command lines of tprun: one table of options, one struct, shared by the subcommands. */
#pragma once
#include "choice.h"
#include "dtype.h"
#include "prompts.h"
#include "report.h"
#include <stdbool.h>
#include <stdint.h>

enum run_command {
    RUN_GENERATE = 1,
    RUN_LOGITS = 2,
    RUN_SELFTEST = 4,
    RUN_TOKENIZE = 8,
    RUN_RENDER = 16,
    RUN_INFO = 32,
    RUN_CHAT = 64,
};
enum {
    RUN_ARGS_MAX = 2,
    RUN_STOPS_MAX = 4,
    RUN_STOP_BYTES_MAX = 256,
    RUN_THREADS_MAX = 1024,
    RUN_CHUNK_MAX = 65536,
    RUN_CHUNK_DEFAULT = 256,
    RUN_DEADLINE_MAX = 86400
};

struct run_options {
    enum run_command command;
    const char *args[RUN_ARGS_MAX]; /* what is no option */
    const char *bundle;             /* the first; tokenize, render: or a compiled tokenizer */
    bool help;
    /* the machine */
    int threads; /* of compute, in all; default: processors */
    enum pin_mode pin;
    const struct device_type *device;
    double memory_fraction; /* --mem-fraction: of a GPU's memory that may be planned */
    bool share;             /* --share-gpu: several ranks on one */
    uint32_t deadline;      /* --deadline: seconds that a rank may be waited for; 0: the default */
    const char *isa;        /* NULL: the best */
    enum dtype kv_dtype;    /* DTYPE_NONE: the arithmetic's */
    uint64_t context;       /* positions per sequence; 0: prompt + n */
    uint64_t chunk;         /* rows of a prefill step; 0: the default */
    uint64_t layers;        /* the first so many alone; 0: all */
    bool exact;
    bool fast;         /* logits */
    bool header_only;  /* --verify=header */
    const char *trace; /* file */
    struct report_form report;
    struct prompts_given prompts;
    struct choice_given choice;
    const char *stops[RUN_STOPS_MAX];
    int n_stops;
    bool ignore_eos, ids, json;
    /* conversations */
    bool chat;                 /* generate --chat */
    const char *chat_template; /* its name; NULL: as transformers chooses */
    bool parse_special;
    bool stats, no_reuse;            /* chat */
    const char *history;             /* chat: file */
    const char *output;              /* logits -o; "-": stdout */
    bool record;                     /* selftest --record */
    bool decode, no_special, plain;  /* tokenize; plain: --text. A text given is prompts.text */
    const char *template_file, *now; /* render: --template, --now */
    bool origin;                     /* render --origin */
};

/* May prompts be run fast, where device and bundle can? A trace is of exact rows. */
static inline bool run_options_fast(const struct run_options *o)
{
    return !o->exact && !o->trace && (o->command & (RUN_GENERATE | RUN_CHAT) || o->fast);
}

/* argv[0] is the subcommand. TP_E_USAGE, TP_E_ISA (not on this machine). */
bool run_options_parse(struct run_options *options, enum run_command command, int argc, char **argv,
                       struct tp_error *err);
