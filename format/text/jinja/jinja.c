/* Compiling and rendering: limits, memory, errors; what is in between is other files'. */
#include "jinja_eval.h"

#include "text.h"
#include "threads.h"
#include "utf8.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

enum { NAME_SLOTS = 4096, COMPILE_MEMORY_MAX = 256 << 20 };

/* ---- errors ---- */

void jinja_error_free(struct jinja_error *error)
{
    mem_free(error->text);
    error->text = NULL;
}

bool jinja_fail(struct jinja_error *error, const char *name, struct tp_error *err)
{
    static const enum tp_code codes[] = {[JINJA_SYNTAX] = TP_E_TEMPLATE_SYNTAX,
                                         [JINJA_RUNTIME] = TP_E_TEMPLATE,
                                         [JINJA_LIMIT] = TP_E_LIMIT,
                                         [JINJA_MEMORY] = TP_E_MEMORY};
    const char *text = error->text ? error->text : "out of memory";
    if (error->line)
        tp_fail(err, codes[error->failure], "%s:%u:%u: %s", name, error->line, error->column, text);
    else
        tp_fail(err, codes[error->failure], "%s: %s", name, text);
    jinja_error_free(error);
    return false;
}

/* ---- compiling ---- */

bool jinja_compile_fail(struct jinja_compile *c, enum jinja_failure failure, uint32_t line,
                        uint32_t column, const char *type, const char *format, ...)
{
    char text[1200];
    size_t n = 0, whole = 0, k;
    if (c->error->text)
        return false; /* the first stays */
    if (type)
        n = (size_t)snprintf(text, sizeof text, "%s: ", type);
    va_list args;
    va_start(args, format);
    vsnprintf(text + n, sizeof text - n, format, args);
    va_end(args);
    n = strlen(text);
    while (whole < n && (k = utf8_length((const unsigned char *)text + whole, n - whole)) > 0)
        whole += k; /* not half a character */
    *c->error = (struct jinja_error){failure, mem_copy(text, whole, NULL), line, column};
    return false;
}

void *jinja_compile_alloc(struct jinja_compile *c, uint64_t bytes)
{
    struct tp_error err = {0};
    if (c->out->arena.total + bytes > COMPILE_MEMORY_MAX) {
        jinja_compile_fail(c, JINJA_LIMIT, 0, 0, NULL, "the template needs more than %d MiB",
                           COMPILE_MEMORY_MAX >> 20);
        return NULL;
    }
    void *p = mem_arena_alloc(&c->out->arena, bytes, &err);
    if (!p)
        jinja_compile_fail(c, JINJA_MEMORY, 0, 0, NULL, "%s", err.text);
    return p;
}

struct jinja_name *jinja_intern(struct jinja_compile *c, const char *text, size_t n)
{
    struct jinja_name **slot =
                          &c->names[XXH3_64bits_withSeed(text, n, (uintptr_t)c->out) % c->n_slots],
                      *name;
    for (name = *slot; name; name = name->next)
        if (name->text.n == n && memcmp(name->text.bytes, text, n) == 0)
            return name;
    name = jinja_compile_alloc(c, sizeof *name);
    char *bytes = name ? jinja_compile_alloc(c, n + 1) : NULL;
    if (!bytes)
        return NULL;
    memcpy(bytes, text, n);
    name->text =
        (struct jinja_string){.bytes = bytes, .n = n, .n_chars = jinja_count_chars(text, n)};
    name->id = c->out->n_names++;
    name->next = *slot;
    *slot = name;
    return name;
}

/* \r\n and \r become \n; one newline at the end goes. */
static size_t normalize(char *out, const char *source, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        bool cr = source[i] == '\r';
        out[k++] = cr ? '\n' : source[i];
        if (cr && i + 1 < n && source[i + 1] == '\n')
            i++;
    }
    return k && out[k - 1] == '\n' ? k - 1 : k;
}

static bool check_source(struct jinja_compile *c, const char *source, size_t n)
{
    uint32_t line = 1, column = 1;
    if (n > JINJA_SOURCE_MAX)
        return jinja_compile_fail(c, JINJA_LIMIT, 0, 0, NULL, "%zu bytes, at most %u are allowed",
                                  n, JINJA_SOURCE_MAX);
    for (size_t i = 0, k; i < n; i += k) {
        k = utf8_length((const unsigned char *)source + i, n - i);
        if (!k)
            return jinja_compile_fail(c, JINJA_SYNTAX, line, column, NULL, "is not valid UTF-8");
        column++;
        if (source[i] == '\n' || (source[i] == '\r' && !(i + 1 < n && source[i + 1] == '\n'))) {
            line++;
            column = 1;
        }
    }
    return true;
}

static bool compile(struct jinja_compile *c, const char *source, size_t n)
{
    c->n_slots = NAME_SLOTS;
    c->names = jinja_compile_alloc(c, NAME_SLOTS * sizeof(struct jinja_name *));
    if (!c->names || !check_source(c, source, n))
        return false;
    char *text = jinja_compile_alloc(c, n + 1);
    return text && jinja_parse(c, text, normalize(text, source, n)) && jinja_resolve(c);
}

/* Templates nest as deep as their limits allow, which takes half a MiB of stack. */
static bool on_a_stack(void (*fn)(void *arg), void *arg, struct jinja_error *error)
{
    enum { STACK_BYTES = 2 << 20 };
    if (thread_call(STACK_BYTES, fn, arg, NULL))
        return true;
    *error = (struct jinja_error){.failure = JINJA_MEMORY};
    return false;
}

static struct jinja_template *compile_here(const char *source, size_t n, struct jinja_error *error)
{
    struct tp_error err = {0};
    struct jinja_template *out = mem_alloc(sizeof *out, &err);
    struct jinja_compile c = {.out = out, .error = error};
    *error = (struct jinja_error){0};
    if (!out) {
        *error = (struct jinja_error){.failure = JINJA_MEMORY};
        return NULL;
    }
    if (compile(&c, source, n))
        return out;
    jinja_template_free(out);
    return NULL;
}

struct compile_call {
    const char *source;
    size_t n;
    struct jinja_error *error;
    struct jinja_template *out;
};

static void call_compile(void *arg)
{
    struct compile_call *c = arg;
    c->out = compile_here(c->source, c->n, c->error);
}

struct jinja_template *jinja_compile(const char *source, size_t n, struct jinja_error *error)
{
    struct compile_call call = {source, n, error, NULL};
    return on_a_stack(call_compile, &call, error) ? call.out : NULL;
}

void jinja_template_free(struct jinja_template *compiled)
{
    if (!compiled)
        return;
    mem_arena_free(&compiled->arena);
    mem_free(compiled);
}

/* ---- rendering ---- */

void jinja_text_free(struct jinja_text *text)
{
    mem_free(text->bytes);
    mem_free(text->origin);
    *text = (struct jinja_text){0};
}

static bool variables(struct jinja *j, const json_t *object, bool data,
                      const struct jinja_dict **out)
{
    struct jinja_value value;
    *out = NULL;
    if (!object)
        return true;
    if (!jinja_from_json(j, object, data, &value))
        return false;
    *out = value.kind == JINJA_DICT ? value.dict : NULL;
    return true;
}

static bool run(struct jinja *j, const json_t *trusted, const json_t *data)
{
    struct jinja_evaluator *ev = j->evaluator;
    uint64_t n = ev->compiled->n_names + 1ull;
    ev->resolved = jinja_alloc(j, n * sizeof *ev->resolved);
    ev->known = ev->resolved ? jinja_alloc(j, n) : NULL;
    if (!ev->known || !variables(j, trusted, false, &ev->trusted) ||
        !variables(j, data, true, &ev->data))
        return false;
    ev->at = jinja_activate(j, &ev->compiled->code, NULL);
    return ev->at && jinja_enter_scope(j, &ev->compiled->scope) &&
           jinja_exec(j, ev->compiled->body) != FLOW_FAIL;
}

static bool copy_out(const struct jinja_builder *b, struct jinja_text *out,
                     struct jinja_error *error)
{
    struct jinja_text text = {.bytes = mem_copy(b->bytes ? b->bytes : "", b->n, NULL),
                              .origin = mem_alloc(b->n + 1, NULL),
                              .n = b->n};
    if (!text.bytes || !text.origin) {
        jinja_text_free(&text);
        *error = (struct jinja_error){.failure = JINJA_MEMORY};
        return false;
    }
    if (b->marks)
        memcpy(text.origin, b->marks, b->n);
    else
        memset(text.origin, b->data, b->n);
    *out = text;
    return true;
}

struct render_call {
    const struct jinja_template *compiled;
    const json_t *trusted, *data;
    const struct jinja_options *options;
    struct jinja_text *out;
    struct jinja_error *error;
    bool ok;
};

static void call_render(void *arg)
{
    struct render_call *c = arg;
    struct jinja_builder text = {0};
    struct jinja_evaluator ev = {.compiled = c->compiled, .out = &text};
    struct jinja j = {
        .steps_left = JINJA_STEPS_MAX, .options = c->options, .error = c->error, .evaluator = &ev};
    *c->error = (struct jinja_error){0};
    c->ok = run(&j, c->trusted, c->data);
    if (!c->ok)
        c->error->column = c->error->line ? ev.column : 0;
    c->ok = c->ok && copy_out(&text, c->out, c->error);
    mem_arena_free(&j.arena);
}

bool jinja_render(const struct jinja_template *compiled, const json_t *trusted, const json_t *data,
                  const struct jinja_options *options, struct jinja_text *out,
                  struct jinja_error *error)
{
    struct render_call call = {compiled, trusted, data, options, out, error, false};
    return on_a_stack(call_render, &call, error) && call.ok;
}
