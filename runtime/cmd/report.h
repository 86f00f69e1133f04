/* What a run says of itself on stderr: a line for people; or, asked for, which files and kernels
 * were in use, how long the cold start took, memory planned and used, speeds. docs/tprun.1 fixes
 * the form of the JSON one. */
#pragma once
#include "batch.h"

struct report_form {
    bool json, text; /* the report; else only a line */
    bool quiet;      /* nothing that was not asked for */
};

struct report {
    double exec_ms;      /* from the start of the process to main; the kernel counts in 10 ms */
    double main_seconds; /* clock at main */
    struct batch_figures figures;
};

/* At the start of main. */
void report_start(struct report *report);
/* Where it is asked for. context: positions of the longest sequence; chunk: rows of a prefill
 * step. */
void report_print(const struct report *report, const struct engine *engine, struct report_form form,
                  uint64_t context, uint64_t chunk);
/* Else, unless quiet, a line for people: so many tokens in the time of all steps, and what else
 * there is to say of them ("" or a text with a space before it). */
void report_line(const struct report *report, const struct engine *engine, struct report_form form,
                 uint64_t tokens, const char *more);
