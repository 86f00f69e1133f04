/* tprun selftest: replay the fixed prompts of a bundle, or record them while it is being made. */
#include "cmd.h"

#include "mem.h"
#include "selftest.h"
#include <stdio.h>

struct selftest_job {
    struct run *run;
    struct batch batch;
    struct selftest test;
};

static bool keep_logits(void *arg, uint32_t prompt, uint32_t position, const float *logits,
                        struct tp_error *err)
{
    struct selftest_job *job = arg;
    (void)err;
    selftest_set_logits(&job->test, prompt, position, logits, job->run->bundle.model.vocab);
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
    if (ok && !job->run->options->report.quiet)
        printf("selftest: %u prompts, every logit and residual as recorded\n", job->test.n_prompts);
    return ok;
}

static bool run_test(struct selftest_job *job, struct tp_error *err)
{
    if (!run_prompts(job->run, &job->batch, keep_logits, job, err))
        return false;
    selftest_set_layers(&job->test, &job->run->engine.trace);
    return true;
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
           run_open_engine(run, true, rows < run->chunk ? rows : run->chunk, err);
}

bool cmd_selftest(const struct run_options *options, struct report *report, struct tp_error *err)
{
    struct run run = {.options = options, .report = report};
    struct selftest_job job = {.run = &run};
    bool ok = open_job(&job, options, err) && run_test(&job, err) &&
              (options->record ? record(&job, err) : replay(&job, err));
    if (ok)
        run_report(&run, &job.batch);
    batch_close(&job.batch);
    run.prompts = (struct prompts){0}; /* they are the test's */
    run_close(&run);
    selftest_free(&job.test);
    return ok;
}
