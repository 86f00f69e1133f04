/* tprun render: a chat template over lines of JSON. A rendering that fails is a result, too. */
#include "cmd.h"

#include "chat_template.h"
#include "json.h"
#include "line_reader.h"
#include "open_tokenizer.h"
#include "shown.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct render_job {
    const char *asked; /* name of the template; NULL: as transformers chooses, for each line */
    const char *path;  /* of the bundle, or of the compiled tokenizer; NULL: --template */
    struct tokenizer tokenizer; /* of path */
    char *tokenizer_bytes;
    struct chat_template chat; /* of the line before */
    struct jinja_options options;
    bool origin;
};

static bool read_now(const char *text, int64_t *now, struct tp_error *err)
{
    struct tm tm = {0};
    const char *end = text ? strptime(text, "%Y-%m-%d %H:%M:%S", &tm) : NULL;
    if (text && (!end || *end)) {
        char name[TP_NAME_BUF];
        return tp_fail(err, TP_E_USAGE, "--now: \"%s\" given, YYYY-MM-DD HH:MM:SS expected",
                       tp_name_cut(name, text, strlen(text)));
    }
    *now = text ? timegm(&tm) : chat_now();
    return true;
}

/* The template that the line gets, of a bundle or a compiled tokenizer. */
static bool choose_template(struct render_job *job, bool tools, struct tp_error *err)
{
    if (!job->path)
        return true;
    const struct tokenizer_file *file = &job->tokenizer.file;
    struct tp_error why = {0};
    const char *name = chat_template_find(file, job->asked, tools, &why);
    if (!name)
        return tp_fail(err, why.code, "%s: %s", job->path, why.text);
    if (job->chat.name && strcmp(job->chat.name, name) == 0)
        return true;
    chat_template_close(&job->chat);
    return chat_template_open(&job->chat, file, name, err);
}

static bool open_template(struct render_job *job, const char *path, struct tp_error *err)
{
    char *source;
    size_t n;
    struct jinja_error why;
    if (!io_read_file(path, JINJA_SOURCE_MAX, &source, &n, err))
        return false;
    job->chat.compiled = jinja_compile(source, n, &why);
    mem_free(source);
    return job->chat.compiled || jinja_fail(&why, path, err);
}

/* [[begin, end], ...]: the bytes that are data. */
static json_t *data_ranges(const struct jinja_text *text)
{
    json_t *ranges = json_array();
    for (size_t i = 0; i < text->n;) {
        size_t begin = i;
        while (i < text->n && text->origin[i] == text->origin[begin])
            i++;
        if (text->origin[begin])
            json_array_append_new(ranges, json_pack("[II]", (json_int_t)begin, (json_int_t)i));
    }
    return ranges;
}

static json_t *result(const struct render_job *job, const struct jinja_text *text)
{
    json_t *string = json_stringn(text->bytes, text->n);
    return job->origin ? json_pack("{s:o, s:o}", "text", string, "data", data_ranges(text))
                       : string;
}

static bool put(json_t *value, struct tp_error *err)
{
    char *line = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    json_decref(value);
    if (!line)
        return tp_fail(err, TP_E_MEMORY, "no memory for a line of output");
    shown_put_json(stdout, line);
    bool ok = putchar('\n') != EOF;
    free(line);
    return ok || tp_fail_errno(err, "standard output: cannot be written");
}

static bool render_line(const struct render_job *job, const char *name, const json_t *variables,
                        struct tp_error *err)
{
    struct jinja_text text = {0};
    struct jinja_error why;
    if (jinja_render(job->chat.compiled, job->chat.trusted, variables, &job->options, &text,
                     &why)) {
        bool ok = put(result(job, &text), err);
        jinja_text_free(&text);
        return ok;
    }
    if (why.failure == JINJA_MEMORY)
        return jinja_fail(&why, name, err);
    bool ok = put(json_pack("{s:s, s:i}", "error", why.text, "line", (int)why.line), err);
    jinja_error_free(&why);
    return ok;
}

static bool render_text(struct render_job *job, const char *line, size_t n, uint64_t number,
                        struct tp_error *err)
{
    char name[48];
    snprintf(name, sizeof name, "standard input: line %llu", (unsigned long long)number);
    json_t *variables = json_parse_line(name, line, n, false, TP_E_JSON, err);
    if (!variables)
        return false;
    bool ok = json_is_object(variables)
                  ? choose_template(job, json_find(variables, "tools") != NULL, err) &&
                        render_line(job, name, variables, err)
                  : tp_fail(err, TP_E_JSON, "%s: %s found, an object of variables expected", name,
                            json_type_name(variables));
    json_decref(variables);
    return ok;
}

static bool render_lines(struct render_job *job, struct line_reader *in, struct tp_error *err)
{
    bool live = line_reader_is_live(in), more;
    char *line;
    size_t n;
    while (line_reader_next(in, &line, &n, &more, err)) {
        if (!more)
            return true;
        if (!line_is_blank(line, n) && !render_text(job, line, n, in->line, err))
            return false;
        if (live && fflush(stdout) != 0)
            return tp_fail_errno(err, "standard output: cannot be written");
    }
    return false;
}

bool cmd_render(const struct run_options *options, struct report *report, struct tp_error *err)
{
    (void)report;
    struct line_reader in = {.fd = 0};
    struct render_job job = {
        .asked = options->chat_template, .path = options->bundle, .origin = options->origin};
    bool ok = read_now(options->now, &job.options.now, err) &&
              (job.path ? tokenizer_open_either(job.path, &job.tokenizer, &job.tokenizer_bytes, err)
                        : open_template(&job, options->template_file, err)) &&
              render_lines(&job, &in, err);
    line_reader_free(&in);
    chat_template_close(&job.chat);
    tokenizer_close(&job.tokenizer);
    mem_free(job.tokenizer_bytes);
    return ok;
}
