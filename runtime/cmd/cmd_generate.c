/* tprun generate: how tokens are chosen, and what of them is shown. One text is streamed as it
 * comes; of several prompts, and with --json or --ids, every sequence is printed in order once it
 * is complete. */
#include "cmd.h"

#include "choice.h"
#include "detokenizer.h"
#include "interrupt.h"
#include "shown.h"
#include <stdio.h>
#include <string.h>

static char output_buffer[1 << 16]; /* stdout's: it would allocate one */
static const char interrupted[] =
    "interrupted; what was said so far is printed, run again to start over";

struct printer {
    struct run *run;
    struct batch batch;
    struct choice choice;
    uint8_t *marks;            /* of ids that are no tokens; NULL: none */
    struct detokenizer *texts; /* [prompts.count], NULL without a tokenizer */
    uint32_t next;             /* sequence to print */
    bool live;                 /* one text, shown as it comes */
    const char *fresh;         /* [n_fresh] of it, what the last step has added */
    size_t n_fresh;
    struct tp_error failed; /* the first that did: the others go on */
};

/* ---- text ---- */

static bool on_token(void *arg, uint32_t s, uint32_t id)
{
    struct printer *p = arg;
    const char *text;
    size_t n;
    if (!p->texts)
        return false;
    detokenizer_push(&p->texts[s], id, &text, &n);
    p->fresh = text;
    p->n_fresh = n;
    return p->texts[s].stream.stopped;
}

static void print_plain(const char *text, size_t n)
{
    if (n)
        fwrite(text, 1, n, stdout);
}

static void print_escaped(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            putchar('\\');
        if (c >= 0x20)
            putchar(c);
        else if (c == '\n')
            fputs("\\n", stdout);
        else
            printf("\\u%04x", c);
    }
}

/* An answer stands alone; other output goes on where the prompt ends. */
static void begin_text(struct printer *p, uint32_t s)
{
    const struct prompt *prompt = &p->run->prompts.list[s];
    if (p->run->options->chat)
        detokenizer_reset(&p->texts[s]);
    else
        detokenizer_continue(&p->texts[s], prompt->ids, prompt->n_ids);
}

/* The whole text of a sequence: its tokens decoded once more. */
static void print_text(struct printer *p, uint32_t s, void (*print)(const char *text, size_t n))
{
    const struct answer *seq = batch_answer(&p->batch, s);
    struct detokenizer *whole = &p->texts[s];
    uint32_t count = seq->count - (seq->finish == BATCH_EOS);
    const char *text;
    size_t n;
    begin_text(p, s);
    for (uint32_t i = 0; i < count; i++) {
        detokenizer_push(whole, seq->ids[i], &text, &n);
        print(text, n);
    }
    detokenizer_end(whole, &text, &n);
    print(text, n);
}

/* ---- sequences ---- */

static void print_ids(const uint32_t *ids, uint32_t count, const char *between)
{
    for (uint32_t i = 0; i < count; i++)
        printf("%s%u", i ? between : "", ids[i]);
}

static void print_json(struct printer *p, uint32_t s)
{
    const struct prompt *prompt = &p->run->prompts.list[s];
    const struct answer *seq = batch_answer(&p->batch, s);
    printf("{\"schema\": 1, \"id\": ");
    shown_put_json(stdout, prompt->id);
    printf(", \"prompt_ids\": [");
    print_ids(prompt->ids, prompt->n_ids, ", ");
    printf("], \"ids\": [");
    print_ids(seq->ids, seq->count, ", ");
    printf("], \"text\": ");
    if (p->texts) {
        putchar('"');
        print_text(p, s, print_escaped);
        putchar('"');
    } else {
        printf("null");
    }
    printf(", \"finish\": \"%s\"}\n", batch_finish_name(seq->finish));
}

static void print_sequence(struct printer *p, uint32_t s)
{
    const struct answer *seq = batch_answer(&p->batch, s);
    const struct run_options *o = p->run->options;
    if (o->json) {
        print_json(p, s);
    } else if (o->ids) {
        print_ids(seq->ids, seq->count, " ");
        putchar('\n');
    } else if (p->live) {
        const char *text;
        size_t n;
        detokenizer_end(&p->texts[s], &text, &n);
        print_plain(text, n);
        putchar('\n');
    } else {
        print_text(p, s, print_plain);
        putchar('\n');
    }
}

static bool print_complete(struct printer *p, struct tp_error *err)
{
    if (p->live && p->n_fresh)
        print_plain(p->fresh, p->n_fresh);
    p->n_fresh = 0;
    for (;
         p->next < p->run->prompts.count && batch_answer(&p->batch, p->next)->finish != BATCH_GOING;
         p->next++) {
        struct tp_error why = {0};
        if (!batch_check(&p->batch, p->next, &why))
            tp_fail(&p->failed, why.code, "prompt %s: %s", p->run->prompts.list[p->next].id,
                    why.text);
        print_sequence(p, p->next);
    }
    return fflush(stdout) == 0 || tp_fail_errno(err, "standard output: cannot be written");
}

/* How many tokens came, and how the answers ended. */
static void print_line(struct printer *p)
{
    const uint32_t n = p->run->prompts.count;
    uint32_t ended[BATCH_FINISHES] = {0};
    uint64_t tokens = 0;
    char text[160] = " (";
    size_t at = 2;
    for (uint32_t s = 0; s < n; s++) {
        tokens += batch_answer(&p->batch, s)->count;
        ended[batch_answer(&p->batch, s)->finish]++;
    }
    if (n > 1)
        at += (size_t)snprintf(text + at, sizeof text - at, "%u answers: ", n);
    const char *between = "";
    for (int i = 0; i < BATCH_FINISHES; i++) {
        if (!ended[i])
            continue;
        at += (size_t)snprintf(text + at, sizeof text - at, "%s", between);
        if (n > 1)
            at += (size_t)snprintf(text + at, sizeof text - at, "%u ", ended[i]);
        at += (size_t)snprintf(text + at, sizeof text - at, "%s",
                               batch_finish_name((enum batch_finish)i));
        between = ", ";
    }
    snprintf(text + at, sizeof text - at, ")");
    run_report_line(p->run, tokens, text);
}

/* ---- setting up ---- */

static bool open_texts(struct printer *p, struct tp_error *err)
{
    const struct run_options *o = p->run->options;
    uint32_t n = p->run->prompts.count;
    if (!p->run->has_tokenizer)
        return (!o->n_stops && (o->ids || o->json)) ||
               tp_fail(err, TP_E_TK_UNSUPPORTED, "%s: no tokenizer, %s", p->run->bundle.dir,
                       o->n_stops ? "--stop needs one" : "use --ids or --json");
    p->texts = mem_array(n, sizeof *p->texts, err);
    bool ok = p->texts != NULL;
    for (uint32_t s = 0; ok && s < n; s++)
        ok = detokenizer_open(&p->texts[s], &p->run->tokenizer.file, true,
                              p->run->prompts.list[s].n, o->stops, (size_t)o->n_stops, err);
    for (uint32_t s = 0; ok && s < n; s++)
        begin_text(p, s);
    p->live = n == 1 && !o->ids && !o->json;
    return ok;
}

/* What can be refused before the weights are read. */
static bool open_printer(struct printer *p, struct tp_error *err)
{
    const struct run_options *o = p->run->options;
    const struct tokenizer *tokenizer = p->run->has_tokenizer ? &p->run->tokenizer : NULL;
    if (!choice_read(&p->choice, &p->run->bundle, tokenizer, &o->choice, err) ||
        !open_texts(p, err))
        return false;
    run_note_choice(&p->choice);
    if (o->chat)
        chat_set_stops(&p->run->chat, p->choice.eos, p->choice.n_eos);
    return true;
}

static bool add_requests(struct printer *p, struct tp_error *err)
{
    const struct run_options *o = p->run->options;
    const struct chat *chat = &p->run->chat;
    struct request request = {
        .sampling = p->choice.sampling,
        .eos = o->chat ? chat->stops : p->choice.eos,
        .n_eos = o->ignore_eos ? 0
                 : o->chat     ? chat->n_stops
                               : p->choice.n_eos,
        .on_token = on_token,
        .arg = p,
    };
    if (p->run->has_tokenizer && request.sampling.temperature > 0 &&
        !choice_ban_holes(&p->run->tokenizer, p->run->bundle.model.vocab, request.eos,
                          request.n_eos, &p->marks, err))
        return false;
    request.marks = p->marks;
    for (uint32_t s = 0; s < p->run->prompts.count; s++) {
        const struct prompt *prompt = &p->run->prompts.list[s];
        request.stream = s;
        request.ids = prompt->ids;
        request.n_ids = prompt->n_ids;
        request.n = prompt->n;
        request.cut = prompt->cut;
        if (batch_add(&p->batch, &request, s, err) != s)
            return false;
    }
    return true;
}

static bool run_requests(struct printer *p, struct tp_error *err)
{
    bool ran = true, ended = false;
    while (ran) {
        if (!batch_step(&p->batch, &ran, err) || !print_complete(p, err))
            return false;
        if (ran && interrupt_pending()) {
            batch_interrupt(&p->batch);
            ended = true;
        }
    }
    if (ended)
        return tp_fail(err, TP_E_INTERRUPTED, "%s", interrupted);
    return p->failed.code == TP_OK || tp_fail(err, p->failed.code, "%s", p->failed.text);
}

static void close_printer(struct printer *p)
{
    for (uint32_t s = 0; p->texts && s < p->run->prompts.count; s++)
        detokenizer_close(&p->texts[s]);
    batch_close(&p->batch);
    mem_free(p->texts);
    mem_free(p->marks);
    mem_free(p);
}

bool cmd_generate(const struct run_options *options, struct report *report, struct tp_error *err)
{
    struct run run;
    interrupt_say("%s", interrupted);
    if (!run_open(&run, options, report, err))
        return false;
    struct printer *p = mem_alloc(sizeof *p, err);
    bool ok = p != NULL;
    if (ok) {
        p->run = &run;
        setvbuf(stdout, output_buffer, _IOFBF, sizeof output_buffer);
        uint64_t rows = run.prompts.total_ids < run.chunk ? run.prompts.total_ids : run.chunk;
        rows += run.prompts.count;
        ok = open_printer(p, err) && run_open_engine(&run, true, rows, err) &&
             batch_open(&p->batch, &run.engine, run.chunk, err) && add_requests(p, err) &&
             run_requests(p, err);
    }
    ok = ok && run_write_trace(&run, err);
    if (ok) {
        run_report(&run, &p->batch);
        print_line(p);
    }
    if (p)
        close_printer(p);
    run_close(&run);
    return ok;
}
