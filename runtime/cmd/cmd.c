#include "cmd.h"

#include "checked.h"
#include "interrupt.h"
#include "processors.h"

enum { SPARE_PAGES = 16 }; /* so that short sequences can share a step where they come one by one */

void run_close(struct run *run)
{
    engine_close(&run->engine);
    prompts_free(&run->prompts);
    mem_free(run->positions);
    chat_close(&run->chat);
    if (run->has_tokenizer)
        tokenizer_close(&run->tokenizer);
    mem_free(run->tokenizer_bytes);
    bundle_close(&run->bundle);
    if (run->tracing)
        output_file_close(&run->trace, false, NULL);
    *run = (struct run){0};
}

bool run_write_trace(struct run *run, struct tp_error *err)
{
    if (!run->tracing)
        return true;
    run->tracing = false;
    bool ok = trace_write(&run->engine.trace, &run->trace, err);
    return output_file_close(&run->trace, ok, err);
}

void run_note_choice(const struct choice *choice)
{
    const struct generation_config *c = &choice->config;
    char more[32] = "";
    if (c->n_ignored > 1)
        snprintf(more, sizeof more, " and %u more", c->n_ignored - 1);
    if (c->ignored)
        tp_note("generation_config.json: %s%s %s ignored", c->ignored, more, *more ? "are" : "is");
}

bool run_prompts(struct run *run, struct batch *batch,
                 bool (*fn)(void *arg, uint32_t prompt, uint32_t position, const float *logits,
                            struct tp_error *err),
                 void *arg, struct tp_error *err)
{
    const struct prompts *p = &run->prompts;
    bool ran, ok = batch_open(batch, &run->engine, run->chunk, err);
    for (uint32_t i = 0, done = 0; ok && done < p->count;) {
        /* fast ones one at a time: in a step, exact ones come before them */
        for (; ok && i < p->count && (i == done || !run->fast); i++) {
            const struct request request = {.ids = p->list[i].ids,
                                            .n_ids = p->list[i].n_ids,
                                            .sampling = sampler_defaults(),
                                            .exact = !run->fast,
                                            .on_logits = fn,
                                            .arg = arg};
            ok = batch_add(batch, &request, i, err) == i;
        }
        ok = ok && (interrupt_pending() ? interrupt_fail(err) : batch_step(batch, &ran, err));
        while (ok && done < i && batch_answer(batch, done)->finish != BATCH_GOING) {
            ok = batch_check(batch, done, err);
            batch_remove(batch, done++, false);
        }
    }
    return ok;
}

void run_report(struct run *run, const struct batch *batch)
{
    run->report->figures = batch->figures;
    report_print(run->report, &run->engine, run->options->report, run->context, run->chunk);
}

void run_report_line(struct run *run, uint64_t tokens, const char *more)
{
    report_line(run->report, &run->engine, run->options->report, tokens, more);
}

static bool open_tokenizer(struct run *run, struct tp_error *err)
{
    const struct bundle_file *file = bundle_find_file(&run->bundle, BUNDLE_TOKENIZER);
    size_t n;
    if (!file)
        return true;
    run->has_tokenizer =
        bundle_read_file(&run->bundle, file, &run->tokenizer_bytes, &n, err) &&
        tokenizer_open_bytes(run->tokenizer_bytes, n, BUNDLE_TOKENIZER, &run->tokenizer, err);
    return run->has_tokenizer;
}

static bool open_chat(struct run *run, struct tp_error *err)
{
    struct tp_error why = {0};
    if (!run->has_tokenizer)
        return tp_fail(err, TP_E_TK_UNSUPPORTED, "%s: no tokenizer, a chat needs one",
                       run->bundle.dir);
    const struct run_options *o = run->options;
    bool ok = chat_open(&run->chat, &run->tokenizer, o->chat_template, o->parse_special, &why);
    if (ok && o->command == RUN_CHAT) /* it gives no tools */
        ok = chat_template_find(&run->tokenizer.file, o->chat_template, false, &why) != NULL;
    return ok || tp_fail(err, why.code, "%s: %s", run->bundle.dir, why.text);
}

struct spared {
    const struct run *run;
    const struct output_file *file;
    struct tp_error *err;
};

static bool spares(void *arg, const char *name)
{
    const struct spared *s = arg;
    char path[IO_PATH_MAX];
    return !io_join(path, s->run->bundle.dir, name, NULL) ||
           output_file_spares(s->file, path, s->err);
}

bool run_check_output(const struct run *run, const struct output_file *file, struct tp_error *err)
{
    const struct prompts_given *given = &run->options->prompts;
    const char *files[] = {given->prompts_file, given->text_file};
    for (int i = 0; i < 2; i++)
        if (files[i] && strcmp(files[i], "-") != 0 && !output_file_spares(file, files[i], err))
            return false;
    return bundle_each_file(&run->bundle, spares, &(struct spared){run, file, err});
}

/* The least chunk that holds a context does with it what every larger one does: the chunks of a
 * prompt do not depend on who else is there. */
void run_set_chunk(struct run *run)
{
    const struct run_options *o = run->options;
    run->fast = run_options_fast(o) && engine_has_fast(o->device, &run->bundle);
    run->chunk = o->chunk ? o->chunk : RUN_CHUNK_DEFAULT;
    if (!run->fast || o->chunk)
        return;
    const uint32_t *chunk = o->device->chunks;
    while (*chunk < run->context && chunk[1])
        chunk++;
    run->chunk = *chunk;
}

bool run_set_lengths(struct run *run, struct tp_error *err)
{
    struct prompts *p = &run->prompts;
    uint64_t given = run->options->context;
    bool generate = run->options->command == RUN_GENERATE;
    run->positions = mem_array(p->count, sizeof *run->positions, err);
    if (!run->positions)
        return false;
    for (uint32_t s = 0; s < p->count; s++) {
        struct prompt *prompt = &p->list[s];
        if (given && prompt->n_ids > given)
            return tp_fail(err, TP_E_PROMPT, "prompt %s: %u tokens, --context allows %llu",
                           prompt->id, prompt->n_ids, (unsigned long long)given);
        uint64_t n = generate ? prompt->n : 0, length;
        prompt->cut = given && n > given - prompt->n_ids;
        if (prompt->cut)
            n = given - prompt->n_ids;
        prompt->n = (uint32_t)(n < UINT32_MAX - prompt->n_ids ? n : UINT32_MAX - prompt->n_ids);
        length = (uint64_t)prompt->n_ids + prompt->n;
        run->context = length > run->context ? length : run->context;
        /* the last new token never enters the model */
        run->positions[s] = given && generate ? given : length - (prompt->n > 0);
    }
    if (given && generate)
        run->context = given;
    run_set_chunk(run);
    if (run->context > run->bundle.model.max_positions)
        tp_note("%llu positions, the model was made for %llu", (unsigned long long)run->context,
                (unsigned long long)run->bundle.model.max_positions);
    return true;
}

/* --layers */
static bool cut_layers(struct run *run, struct tp_error *err)
{
    const uint64_t n = run->options->layers;
    if (!model_config_check_layers(run->bundle.n_layers, n, run->bundle.dir, err))
        return false;
    if (n)
        bundle_cut(&run->bundle, n);
    return true;
}

bool run_open(struct run *run, const struct run_options *options, struct report *report,
              struct tp_error *err)
{
    *run = (struct run){.options = options, .report = report};
    bool talk = options->command == RUN_CHAT;
    bool text = options->prompts.text || options->prompts.text_file ||
                options->prompts.prompts_file || options->n_stops || options->chat || talk ||
                options->command == RUN_GENERATE;
    run->tracing = options->trace != NULL;
    bool ok = (!run->tracing || output_file_open(&run->trace, options->trace, err)) &&
              bundle_open(&run->bundle, options->bundle, false, err) && cut_layers(run, err) &&
              (!run->tracing || run_check_output(run, &run->trace, err)) &&
              (!text || open_tokenizer(run, err)) &&
              (!(options->chat || talk) || open_chat(run, err));
    if (ok && !talk)
        ok = prompts_read(&run->prompts, &options->prompts,
                          run->has_tokenizer ? &run->tokenizer : NULL,
                          options->chat ? &run->chat : NULL, run->bundle.model.vocab, err) &&
             run_set_lengths(run, err);
    if (!ok)
        run_close(run);
    return ok;
}

/* Pages for all sequences at once, or for the longest and a few more. */
static bool count_pages(const struct run *run, bool at_once, uint32_t *n_pages,
                        struct tp_error *err)
{
    uint64_t sum = 0, most = 0;
    for (uint32_t s = 0; s < run->prompts.count; s++) {
        uint64_t n = kv_cache_pages_of(run->positions[s]);
        sum += n; /* below 2^16 * 2^55 */
        most = max_u64(most, n);
    }
    if (!at_once && most + SPARE_PAGES < sum)
        sum = most + SPARE_PAGES;
    if (sum >= UINT32_MAX || most > UINT32_MAX / KV_PAGE_POSITIONS)
        return tp_fail(err, TP_E_MEMORY,
                       "%llu positions of %u sequences need %llu pages of the KV cache, at most %u "
                       "are possible",
                       (unsigned long long)run->context, run->prompts.count,
                       (unsigned long long)sum, UINT32_MAX / KV_PAGE_POSITIONS);
    *n_pages = (uint32_t)sum;
    return true;
}

bool run_open_engine(struct run *run, bool at_once, uint64_t rows_max, struct tp_error *err)
{
    const struct run_options *o = run->options;
    struct engine_setup setup = {
        .device = o->device,
        .memory_fraction = o->memory_fraction,
        .share = o->share,
        .deadline = o->deadline,
        .isa = o->isa,
        .threads = o->threads,
        .pin = o->pin,
        .kv_dtype = o->kv_dtype ? o->kv_dtype : run->bundle.recipe.dtype,
        .rows_max = (uint32_t)rows_max,
        .span_rows_max = run->fast ? (uint32_t)min_u64(rows_max, run->chunk) : 0,
        .n_sequences = run->prompts.count,
        .positions_max = run->positions,
        .verify = !o->header_only,
        .hash_first = o->command == RUN_CHAT, /* who is about to type is told of damage */
        .files = !o->record,
        .trace = o->trace || o->command == RUN_SELFTEST,
    };
    if (o->header_only)
        tp_message("tprun", "warning",
                   "--verify=header: the weights are used without being checked");
    if (o->threads > processors_available())
        tp_note("%d threads take turns on %d processor%s", o->threads, processors_available(),
                processors_available() > 1 ? "s" : "");
    return count_pages(run, at_once, &setup.n_pages, err) &&
           engine_open(&run->engine, &run->bundle, &setup, err);
}
