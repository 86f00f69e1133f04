/* tprun logits: the logits of every prompt position, written step by step. */
#include "cmd.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct logits_job {
    struct run *run;
    struct batch batch;
    struct output_file out;
    uint64_t nans;
    bool begun;
    float *row; /* [vocab] */
};

/* What a file that is named .npy begins with: version 1.0, 64 bytes or a multiple. */
static bool write_head(struct logits_job *job, struct tp_error *err)
{
    const char *path = job->run->options->output;
    enum { MAGIC = 8, LENGTH = 2, HEAD = 128 };
    char head[HEAD + 1] = "\x93NUMPY\x01";
    size_t n = strlen(path);
    if (n < 4 || strcmp(path + n - 4, ".npy") != 0)
        return true;
    int text = snprintf(head + MAGIC + LENGTH, sizeof head - MAGIC - LENGTH,
                        "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %llu), }",
                        (unsigned long long)job->run->prompts.total_ids,
                        (unsigned long long)job->run->bundle.model.vocab);
    tp_assert(text < HEAD - MAGIC - LENGTH);
    head[MAGIC] = HEAD - MAGIC - LENGTH;
    memset(head + MAGIC + LENGTH + text, ' ', (size_t)(HEAD - MAGIC - LENGTH - text));
    head[HEAD - 1] = '\n';
    return output_file_write(&job->out, head, HEAD, err);
}

static bool write_row(void *arg, uint32_t prompt, uint32_t position, const float *logits,
                      struct tp_error *err)
{
    struct logits_job *job = arg;
    uint64_t vocab = job->run->bundle.model.vocab;
    (void)prompt, (void)position;
    if (!job->begun && !write_head(job, err))
        return false;
    job->begun = true;
    for (uint64_t i = 0; i < vocab; i++) {
        job->row[i] = logits[i];
        if (isnan(logits[i])) {
            job->row[i] = f32_from_bits(0x7fc00000);
            job->nans++;
        }
    }
    return output_file_write(&job->out, job->row, vocab * sizeof *job->row, err);
}

bool cmd_logits(const struct run_options *options, struct report *report, struct tp_error *err)
{
    struct run run = {0};
    struct logits_job job = {.run = &run};
    bool ok = output_file_open(&job.out, options->output, err) &&
              output_file_no_terminal(&job.out, options->output, err) &&
              run_open(&run, options, report, err) && run_check_output(&run, &job.out, err);
    if (ok && run.tracing && output_file_same(&job.out, &run.trace))
        ok = tp_fail(err, TP_E_USAGE, "-o and --trace: both name %s", options->output);
    uint64_t total = run.prompts.total_ids;
    ok = ok && run_open_engine(&run, false, total < run.chunk ? total : run.chunk, err) &&
         (job.row = mem_array(run.bundle.model.vocab, sizeof *job.row, err)) != NULL &&
         run_prompts(&run, &job.batch, write_row, &job, err);
    ok = output_file_close(&job.out, ok, err);
    if (ok && job.nans)
        tp_message("tprun", "warning", "%llu logits are NaN, written as 0x7fc00000",
                   (unsigned long long)job.nans);
    ok = ok && run_write_trace(&run, err);
    if (ok) {
        run_report(&run, &job.batch);
        run_report_line(&run, total, "");
    }
    batch_close(&job.batch);
    mem_free(job.row);
    run_close(&run);
    return ok;
}
