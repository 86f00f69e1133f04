/* What a run says of itself on stderr: which files and kernels were in use, how long the cold start
 * took, memory planned and used, speeds. docs/tprun.1 fixes the form of the JSON one. */
#pragma once
#include "engine.h"
#include "run_options.h"

struct report {
    double exec_ms;        /* from the start of the process to main; the kernel counts in 10 ms */
    double main_seconds;   /* clock at main */
    double first_token_ms; /* since main; 0: none */
    double prefill_seconds, decode_seconds;
    uint64_t prefill_tokens, decode_tokens, decode_steps;
};

/* At the start of main. */
void report_start(struct report *report);
void report_first_token(struct report *report);
/* context: positions of the longest sequence. Nothing with -q. */
void report_print(const struct report *report, const struct engine *engine,
                  const struct run_options *options, uint64_t context);
