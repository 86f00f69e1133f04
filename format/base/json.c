#include "json.h"
#include "file_kind.h"
#include "io.h"
#include "mem.h"
#include "program.h"
#include "shown.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a document needs before jansson makes it: it recurses up to 2048 deep, and an empty object
 * of two bytes takes a hundred times as much memory. */
struct extent {
    int depth;       /* at most */
    uint64_t memory; /* bytes, nearly; without the texts of strings */
};

static struct extent measure(const char *data, size_t n)
{
    enum { VALUE = 96, ARRAY = 144, OBJECT = 288 };
    struct extent e = {0};
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n && depth <= JSON_DEPTH_MAX; i++) {
        char c = data[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == ',') {
            e.memory += VALUE;
        } else if (c == '[' || c == '{') {
            e.memory += c == '[' ? ARRAY : OBJECT;
            depth++;
            e.depth = depth > e.depth ? depth : e.depth;
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return e;
}

/* The file that this thread has jansson read. A text that loses a byte for want of memory is
 * another text, or trips one of jansson's assertions: there is no way on from there. */
static _Thread_local const char *reading;

static void *allocate(size_t n)
{
    struct tp_error why = {0};
    void *p = mem_plain(n);
    if (p || !reading)
        return p;
    tp_fail(&why, TP_E_MEMORY, "%s: out of memory: %zu bytes of JSON", reading, n);
    program_give_up(&why);
}

__attribute__((constructor)) static void use_allocate(void)
{
    json_set_alloc_funcs(allocate, mem_free);
}

static json_t *load(const char *file, const char *data, size_t n, json_error_t *why)
{
    reading = file;
    json_t *root = json_loadb(data, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, why);
    reading = NULL;
    return root;
}

/* What is no JSON for all to see, or would take too much. */
static bool check(const char *file, const char *data, size_t n, enum tp_code code,
                  struct tp_error *err)
{
    if (n == 0)
        return tp_fail(err, code, "%s: empty file, JSON expected", file);
    if (!file_kind_check(file, data, n, "JSON", code, err))
        return false;
    const char *nul = memchr(data, '\0', n);
    if (nul)
        return tp_fail(err, code, "%s: byte %td is NUL, JSON expected", file, nul - data);
    struct extent extent = measure(data, n);
    if (extent.depth > JSON_DEPTH_MAX)
        return tp_fail(err, code, "%s: JSON nested deeper than %d", file, JSON_DEPTH_MAX);
    if (extent.memory > JSON_MEMORY_MAX)
        return tp_fail(err, TP_E_LIMIT,
                       "%s: JSON that takes %llu MiB of memory, at most %llu allowed", file,
                       (unsigned long long)(extent.memory >> 20), JSON_MEMORY_MAX >> 20);
    return true;
}

struct text {
    const char *name; /* of the file, or of the line */
    const char *data;
    size_t n;
    enum tp_code code;
    bool line; /* one of many: its number is in the name */
};

static json_t *parse(const struct text *t, json_error_t *why, struct tp_error *err)
{
    memset(why, 0, sizeof *why);
    if (!check(t->name, t->data, t->n, t->code, err))
        return NULL;
    json_t *root = load(t->name, t->data, t->n, why);
    if (!root && t->line)
        tp_fail(err, t->code, "%s column %d: %s", t->name, why->column, why->text);
    else if (!root)
        tp_fail(err, t->code, "%s: line %d column %d: %s", t->name, why->line, why->column,
                why->text);
    return root;
}

json_t *json_parse(const char *file, const char *data, size_t n, enum tp_code code,
                   struct tp_error *err)
{
    json_error_t why;
    return parse(&(struct text){file, data, n, code, false}, &why, err);
}

/* The text with long integers written as fractions, into out (2 n bytes); its length. */
static size_t widen_integers(const char *data, size_t n, char *out)
{
    enum { FITS = 18, DIGITS_MAX = 300 }; /* in 64 bits; in a double */
    size_t at = 0;
    bool in_string = false;
    for (size_t i = 0; i < n;) {
        size_t digits = 0;
        while (!in_string && i + digits < n && data[i + digits] >= '0' && data[i + digits] <= '9')
            digits++;
        if (digits == 0) {
            in_string ^= data[i] == '"';
            if (in_string && data[i] == '\\' && i + 1 < n)
                out[at++] = data[i++];
            out[at++] = data[i++];
            continue;
        }
        size_t kept = digits < DIGITS_MAX ? digits : DIGITS_MAX;
        memcpy(out + at, data + i, kept);
        at += kept;
        i += digits;
        if (digits > FITS && (i == n || !memchr(".eE", data[i], 3))) {
            out[at++] = 'e';
            out[at++] = '0';
        }
    }
    return at;
}

static json_t *parse_wide(const struct text *t, struct tp_error *err)
{
    json_error_t why;
    struct tp_error refused = {0};
    json_t *root = parse(t, &why, &refused);
    if (root || json_error_code(&why) != json_error_numeric_overflow) {
        if (!root)
            tp_fail(err, refused.code, "%s", refused.text);
        return root;
    }
    struct text wide = *t;
    char *data = mem_array(t->n, 2, err);
    if (data) {
        wide.n = widen_integers(t->data, t->n, data);
        wide.data = data;
        root = parse(&wide, &why, err);
    }
    mem_free(data);
    return root;
}

json_t *json_parse_wide(const char *file, const char *data, size_t n, enum tp_code code,
                        struct tp_error *err)
{
    return parse_wide(&(struct text){file, data, n, code, false}, err);
}

json_t *json_parse_line(const char *line, const char *data, size_t n, bool wide, enum tp_code code,
                        struct tp_error *err)
{
    json_error_t why;
    const struct text text = {line, data, n, code, true};
    return wide ? parse_wide(&text, err) : parse(&text, &why, err);
}

json_t *json_read_wide(const char *path, uint64_t limit, enum tp_code code, struct tp_error *err)
{
    char *data;
    size_t n;
    if (!io_read_file(path, limit, &data, &n, err))
        return NULL;
    json_t *root = json_parse_wide(path, data, n, code, err);
    mem_free(data);
    if (root && !json_is_object(root)) {
        tp_fail(err, code, "%s: %s at top level, an object expected", path, json_type_name(root));
        json_decref(root);
        root = NULL;
    }
    return root;
}

const json_t *json_find(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value && !json_is_null(value) ? value : NULL;
}

const char *json_type_name(const json_t *value)
{
    if (!value)
        return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return fabs(json_real_value(value)) < 0x1p63 ? "a fraction" : "a number beyond 64 bits";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "?";
}

static bool wrong_type(const struct json_in *in, const char *key, const char *wanted,
                       const json_t *found, struct tp_error *err)
{
    return tp_fail(err, in->code, "%s: %s: %s expected, %s found", in->file, key, wanted,
                   json_type_name(found));
}

bool json_get_u64(const struct json_in *in, const char *key, uint64_t min, uint64_t max,
                  uint64_t *out, struct tp_error *err)
{
    const json_t *value = json_object_get(in->object, key);
    if (!json_is_integer(value))
        return wrong_type(in, key, "an integer", value, err);
    json_int_t v = json_integer_value(value);
    if (v < 0 || (uint64_t)v < min || (uint64_t)v > max)
        return tp_fail(err, in->code, "%s: %s: %lld, %llu to %llu expected", in->file, key,
                       (long long)v, (unsigned long long)min, (unsigned long long)max);
    *out = (uint64_t)v;
    return true;
}

bool json_get_u64_or(const struct json_in *in, const char *key, uint64_t min, uint64_t max,
                     uint64_t fallback, uint64_t *out, struct tp_error *err)
{
    if (!json_find(in->object, key)) {
        *out = fallback;
        return true;
    }
    return json_get_u64(in, key, min, max, out, err);
}

bool json_get_double(const struct json_in *in, const char *key, double *out, struct tp_error *err)
{
    const json_t *value = json_object_get(in->object, key);
    if (!json_is_number(value))
        return wrong_type(in, key, "a number", value, err);
    *out = json_number_value(value);
    return true;
}

bool json_get_double_or(const struct json_in *in, const char *key, double fallback, double *out,
                        struct tp_error *err)
{
    if (!json_find(in->object, key)) {
        *out = fallback;
        return true;
    }
    return json_get_double(in, key, out, err);
}

bool json_get_bool_or(const struct json_in *in, const char *key, bool fallback, bool *out,
                      struct tp_error *err)
{
    const json_t *value = json_find(in->object, key);
    if (value && !json_is_boolean(value))
        return wrong_type(in, key, "true or false", value, err);
    *out = value ? json_is_true(value) : fallback;
    return true;
}

bool json_get_text(const struct json_in *in, const char *key, const char **out, size_t *n,
                   struct tp_error *err)
{
    const json_t *value = json_object_get(in->object, key);
    if (!json_is_string(value))
        return wrong_type(in, key, "a string", value, err);
    *out = json_string_value(value);
    *n = json_string_length(value);
    return true;
}

bool json_get_string(const struct json_in *in, const char *key, const char **out,
                     struct tp_error *err)
{
    size_t n;
    return json_get_text(in, key, out, &n, err) &&
           (strlen(*out) == n || tp_fail(err, in->code, "%s: %s: has a NUL in it", in->file, key));
}

bool json_get_array(const struct json_in *in, const char *key, const json_t **out,
                    struct tp_error *err)
{
    const json_t *value = json_object_get(in->object, key);
    if (!json_is_array(value))
        return wrong_type(in, key, "an array", value, err);
    *out = value;
    return true;
}

bool json_get_object(const struct json_in *in, const char *key, const json_t **out,
                     struct tp_error *err)
{
    const json_t *value = json_object_get(in->object, key);
    if (!json_is_object(value))
        return wrong_type(in, key, "an object", value, err);
    *out = value;
    return true;
}

char *json_text(const json_t *value, size_t *n, struct tp_error *err)
{
    char *text =
        value ? json_dumps(value, JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17))
              : NULL;
    if (!text || mem_lacking()) {
        tp_fail(err, TP_E_MEMORY, "out of memory: JSON text");
        mem_free(text);
        return NULL;
    }
    *n = strlen(text);
    return text;
}

bool json_print(json_t *value, struct tp_error *err)
{
    size_t n;
    char *text = value ? json_text(value, &n, err) : NULL;
    json_decref(value);
    if (!text)
        return tp_fail(err, TP_E_MEMORY, "out of memory: JSON");
    shown_put_json(stdout, text);
    putchar('\n');
    mem_free(text);
    return true;
}
