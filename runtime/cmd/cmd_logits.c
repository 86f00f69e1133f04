/* tprun logits: the logits of every prompt position, written step by step. */
#include "cmd.h"

#include <math.h>

struct logits_job {
    struct run *run;
    struct batch batch;
    struct output_file out;
    uint64_t nans;
    float *row; /* [vocab] */
};

static bool write_row(void *arg, uint32_t prompt, uint32_t position, const float *logits,
                      struct tp_error *err)
{
    struct logits_job *job = arg;
    uint64_t vocab = job->run->bundle.model.vocab;
    (void)prompt, (void)position;
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
        run_report_line(&run, &job.batch, total, "");
    }
    batch_close(&job.batch);
    mem_free(job.row);
    run_close(&run);
    return ok;
}
