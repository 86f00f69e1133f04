/* tprun logits: the logits of every prompt position, written step by step. */
#include "run.h"

#include "host.h"
#include "interrupt.h"
#include <math.h>

struct logits_job {
    struct run *run;
    struct output_file out;
    uint64_t nans;
    float *row; /* [vocab] */
};

static bool write_row(struct logits_job *job, const float *logits, struct tp_error *err)
{
    uint64_t vocab = job->run->bundle.model.vocab;
    for (uint64_t i = 0; i < vocab; i++) {
        job->row[i] = logits[i];
        if (isnan(logits[i])) {
            job->row[i] = f32_from_bits(0x7fc00000);
            job->nans++;
        }
    }
    return output_file_write(&job->out, job->row, vocab * sizeof *job->row, err);
}

static bool write_step(struct logits_job *job, struct engine *e, struct tp_error *err)
{
    uint32_t n = e->forward.step.n_logits, count;
    for (uint32_t first = 0; first < n; first += count) {
        const float *logits = engine_logits(e, first, &count);
        for (uint32_t i = 0; i < count; i++)
            if (!write_row(job, logits + i * engine_logit_stride(e), err))
                return false;
    }
    return true;
}

static bool drive(struct engine *e, void *arg, struct tp_error *err)
{
    struct logits_job *job = arg;
    const struct prompts *p = &job->run->prompts;
    struct report *report = job->run->report;
    uint64_t start = 0; /* of the step: sequence, position */
    uint32_t s = 0, position = 0;
    while (s < p->count) {
        if (interrupt_pending())
            return interrupt_fail(err);
        double t0 = host_seconds();
        start = s;
        engine_begin(e);
        while (s < p->count &&
               engine_add(e, (struct step_row){s, position, p->list[s].ids[position]}, true))
            if (++position == p->list[s].n_ids) {
                s++;
                position = 0;
            }
        tp_assert(e->forward.step.n_rows > 0);
        engine_step(e);
        report->prefill_tokens += e->forward.step.n_rows;
        if (!write_step(job, e, err))
            return false;
        report->prefill_seconds += host_seconds() - t0;
        for (uint64_t done = start; done < s; done++)
            kv_cache_release(&e->cache, (uint32_t)done);
    }
    return true;
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
    ok = ok && run_open_engine(&run, false, total < options->chunk ? total : options->chunk, err) &&
         (job.row = mem_array(run.bundle.model.vocab, sizeof *job.row, err)) != NULL &&
         engine_run(&run.engine, drive, &job, err);
    ok = output_file_close(&job.out, ok, err);
    if (ok && job.nans)
        tp_message("tprun", "warning", "%llu logits are NaN, written as 0x7fc00000",
                   (unsigned long long)job.nans);
    ok = ok && run_write_trace(&run, err);
    if (ok)
        report_print(report, &run.engine, options, run.context);
    mem_free(job.row);
    run_close(&run);
    return ok;
}
