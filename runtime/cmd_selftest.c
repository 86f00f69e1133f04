/* tprun selftest: replay the fixed prompts of a bundle, or record them while it is being made. */
#include "run.h"

#include "host.h"
#include "selftest.h"
#include <stdio.h>

struct selftest_job {
    struct run *run;
    struct selftest test;
};

static void keep_logits(struct selftest_job *job, struct engine *e)
{
    const struct step *step = &e->forward.step;
    uint32_t count;
    for (uint32_t first = 0; first < step->n_logits; first += count) {
        const float *logits = engine_logits(e, first, &count);
        for (uint32_t i = 0; i < count; i++) {
            const struct step_row *row = &step->rows[step->logit_rows[first + i]];
            selftest_set_logits(&job->test, row->sequence, row->position,
                                logits + i * engine_logit_stride(e), job->run->bundle.model.vocab);
        }
    }
}

static bool drive(struct engine *e, void *arg, struct tp_error *err)
{
    (void)err;
    struct selftest_job *job = arg;
    struct report *report = job->run->report;
    uint32_t s = 0, position = 0;
    while (s < job->test.n_prompts) {
        double t0 = host_seconds();
        const struct prompt *prompt = &job->test.prompts[s];
        engine_begin(e);
        while (s < job->test.n_prompts &&
               engine_add(e, (struct step_row){s, position, prompt->ids[position]}, true))
            if (++position == prompt->n_ids) {
                prompt = &job->test.prompts[++s];
                position = 0;
            }
        engine_step(e);
        keep_logits(job, e);
        report->prefill_tokens += e->forward.step.n_rows;
        report->prefill_seconds += host_seconds() - t0;
    }
    selftest_set_layers(&job->test, &e->trace);
    return true;
}

static bool record(struct selftest_job *job, struct tp_error *err)
{
    size_t n;
    char *text = selftest_text(&job->test, &n, err);
    bool ok = text && output_file_put("-", text, n, err);
    mem_free(text);
    return ok;
}

static bool replay(struct selftest_job *job, struct tp_error *err)
{
    const struct bundle *bundle = &job->run->bundle;
    const struct bundle_file *file = bundle_find_file(bundle, BUNDLE_SELFTEST);
    char *text;
    size_t n;
    if (!bundle_read_file(bundle, file, &text, &n, err))
        return false;
    bool ok = selftest_compare(&job->test, file->name, text, n, err);
    mem_free(text);
    if (ok && !job->run->options->quiet)
        printf("selftest: %u prompts, every logit and residual as recorded\n", job->test.n_prompts);
    return ok;
}

static bool open_job(struct selftest_job *job, const struct run_options *options,
                     struct tp_error *err)
{
    struct run *run = job->run;
    if (!bundle_open(&run->bundle, options->bundle, options->record, err) ||
        !selftest_init(&job->test, &run->bundle.model, err))
        return false;
    if (!options->record && !bundle_find_file(&run->bundle, BUNDLE_SELFTEST))
        return tp_fail(err, TP_E_UNSUPPORTED, "%s: has no %s, it was converted without",
                       run->bundle.dir, BUNDLE_SELFTEST);
    uint64_t rows = 0;
    run->prompts = (struct prompts){.list = job->test.prompts, .count = job->test.n_prompts};
    for (uint32_t s = 0; s < job->test.n_prompts; s++)
        rows += job->test.prompts[s].n_ids;
    return run_set_lengths(run, err) &&
           run_open_engine(run, true, rows < options->chunk ? rows : options->chunk, err);
}

bool cmd_selftest(const struct run_options *options, struct report *report, struct tp_error *err)
{
    struct run run = {.options = options, .report = report};
    struct selftest_job job = {.run = &run};
    bool ok = open_job(&job, options, err) && engine_run(&run.engine, drive, &job, err) &&
              (options->record ? record(&job, err) : replay(&job, err));
    if (ok)
        report_print(report, &run.engine, options, run.context);
    run.prompts = (struct prompts){0}; /* they are the test's */
    run_close(&run);
    selftest_free(&job.test);
    return ok;
}
