/* tprun logits: the logits of every prompt position, written step by step. */
#include "run.h"

#include "host.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Where the rows go: FILE.tmp, renamed when all of it is there, or stdout. */
struct sink {
    const char *path; /* NULL: stdout */
    char tmp[IO_PATH_MAX];
    int fd;
    uint64_t bytes;
};

static bool sink_open(struct sink *sink, const char *path, struct tp_error *err)
{
    *sink = (struct sink){.fd = -1};
    if (strcmp(path, "-") == 0)
        return true;
    sink->path = path;
    if ((size_t)snprintf(sink->tmp, sizeof sink->tmp, "%s.tmp", path) >= sizeof sink->tmp)
        return tp_fail(err, TP_E_LIMIT, "-o: path longer than %d bytes", IO_PATH_MAX);
    int old = -1;
    if (io_exists(path) && (old = io_open_read(path, NULL, err)) < 0)
        return false; /* a device or a folder would not survive the rename */
    io_close(&old, path, NULL);
    if (io_exists(sink->tmp) && !io_unlink(sink->tmp, err))
        return false;
    sink->fd = io_create(sink->tmp, err);
    return sink->fd >= 0;
}

static bool sink_write(struct sink *sink, const void *data, size_t n, struct tp_error *err)
{
    if (!sink->path)
        return fwrite(data, 1, n, stdout) == n || tp_fail_errno(err, "stdout: cannot be written");
    bool ok = io_write_at(sink->fd, sink->tmp, data, n, sink->bytes, err);
    sink->bytes += n;
    return ok;
}

/* ok: all rows were written. */
static bool sink_close(struct sink *sink, bool ok, struct tp_error *err)
{
    if (!sink->path)
        return (fflush(stdout) == 0 || tp_fail_errno(err, "stdout: cannot be written")) && ok;
    if (sink->fd < 0)
        return false;
    ok = io_close(&sink->fd, sink->tmp, err) && ok;
    if (ok)
        return io_rename(sink->tmp, sink->path, err);
    io_unlink(sink->tmp, NULL);
    return false;
}

struct logits_job {
    struct run *run;
    struct sink sink;
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
    return sink_write(&job->sink, job->row, vocab * sizeof *job->row, err);
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
    struct run run;
    if (!run_open(&run, options, report, err))
        return false;
    struct logits_job job = {.run = &run};
    uint64_t total = run.prompts.total_ids;
    bool ok = run_open_engine(&run, false, total < options->chunk ? total : options->chunk, err) &&
              (job.row = mem_array(run.bundle.model.vocab, sizeof *job.row, err)) != NULL &&
              sink_open(&job.sink, options->output, err);
    if (ok) {
        ok = engine_run(&run.engine, drive, &job, err);
        ok = sink_close(&job.sink, ok, err);
    }
    if (ok && job.nans)
        tp_message("tprun", "warning", "%llu logits are NaN, written as 0x7fc00000",
                   (unsigned long long)job.nans);
    if (ok && options->trace)
        ok = trace_write(&run.engine.trace, options->trace, err);
    if (ok)
        report_print(report, &run.engine, options, run.context);
    mem_free(job.row);
    run_close(&run);
    return ok;
}
