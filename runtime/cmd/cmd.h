/* What the subcommands share: bundle, tokenizer, prompts, and an engine of the size they need. */
#pragma once
#include "engine.h"
#include "output_file.h"
#include "run_options.h"

struct run {
    const struct run_options *options;
    struct report *report;
    struct bundle bundle;
    struct tokenizer tokenizer;
    bool has_tokenizer;
    char *tokenizer_bytes;
    struct chat chat; /* open where options say so */
    struct prompts prompts;
    uint64_t context;    /* tokens of the longest sequence, prompt and new ones */
    uint64_t *positions; /* [prompts.count] positions each sequence may use of the KV cache */
    uint64_t chunk;      /* rows of a step's prompts, or of a fast prompt's span */
    bool fast;           /* long prompts */
    struct engine engine;
    struct output_file trace; /* open with --trace: decided before any work */
    bool tracing;
};

/* Bundle, tokenizer (where text is asked for), chat (where it is) and prompts (but for RUN_CHAT,
 * which has none). A {0} run may be closed. */
bool run_open(struct run *run, const struct run_options *options, struct report *report,
              struct tp_error *err);
/* How long each sequence may become, from prompts and options; TP_E_PROMPT: one does not fit. */
bool run_set_lengths(struct run *run, struct tp_error *err);
/* Whether prompts are run fast, and chunks, of options and context. */
void run_set_chunk(struct run *run);
/* The engine, for steps of at most rows_max rows. at_once: all sequences live together (generate);
 * else one after the other, and a few short ones together (logits). */
bool run_open_engine(struct run *run, bool at_once, uint64_t rows_max, struct tp_error *err);
/* All prompts through the model, in order, every row of logits to fn; who is done makes room. The
 * batch, to be closed in any case, has the figures. TP_E_INTERRUPTED. */
bool run_prompts(struct run *run, struct batch *batch,
                 bool (*fn)(void *arg, uint32_t prompt, uint32_t position, const float *logits,
                            struct tp_error *err),
                 void *arg, struct tp_error *err);
/* The file is none that is read, of the bundle or of prompts: TP_E_OUTPUT_EXISTS. */
bool run_check_output(const struct run *run, const struct output_file *file, struct tp_error *err);
/* --trace FILE, if it was given. */
bool run_write_trace(struct run *run, struct tp_error *err);
/* What of generation_config.json is not followed. */
void run_note_choice(const struct choice *choice);
/* What the run says of itself, of the batch's figures: where it is asked for; else, after it, the
 * line. */
void run_report(struct run *run, const struct batch *batch);
void run_report_line(struct run *run, uint64_t tokens, const char *more);
void run_close(struct run *run);

/* The subcommands: exit status is that of err. */
bool cmd_generate(const struct run_options *options, struct report *report, struct tp_error *err);
bool cmd_logits(const struct run_options *options, struct report *report, struct tp_error *err);
bool cmd_chat(const struct run_options *options, struct report *report, struct tp_error *err);
bool cmd_selftest(const struct run_options *options, struct report *report, struct tp_error *err);
bool cmd_tokenize(const struct run_options *options, struct report *report, struct tp_error *err);
bool cmd_info(const struct run_options *options, struct report *report, struct tp_error *err);
bool cmd_render(const struct run_options *options, struct report *report, struct tp_error *err);
