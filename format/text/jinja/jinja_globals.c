/* The functions a template finds: range, dict, namespace, raise_exception, strftime_now. */
#include "jinja_inside.h"

#include <string.h>

/* ---- range ---- */

enum { RANGE_MAX = 100000 };

static bool range_call(struct jinja *j, struct jinja_object *self, const struct jinja_args *args,
                       struct jinja_value *out)
{
    (void)self;
    int64_t v[3] = {0, 0, 1};
    if (args->n_keywords)
        return jinja_raise(j, "TypeError", "safe_range() got an unexpected keyword argument '%s'",
                           jinja_string_text(j, args->keywords[0].name));
    if (args->count < 1 || args->count > 3)
        return jinja_raise(j, "TypeError", "range expected at %s argument%s, got %zu",
                           args->count < 1 ? "least 1" : "most 3", args->count < 1 ? "" : "s",
                           args->count);
    for (size_t i = 0; i < args->count; i++)
        if (!jinja_index(j, args->items[i], &v[args->count == 1 ? 1 : i]))
            return false;
    int64_t start = v[0], stop = v[1], step = v[2];
    if (step == 0)
        return jinja_raise(j, "ValueError", "range() arg 3 must not be zero");
    uint64_t span = 0, by = step > 0 ? (uint64_t)step : -(uint64_t)step;
    if (step > 0 ? start < stop : start > stop)
        span = step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    uint64_t count = span / by + (span % by != 0);
    if (count > RANGE_MAX)
        return jinja_raise(j, "OverflowError",
                           "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                           RANGE_MAX);
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_RANGE, count, out);
    if (!s)
        return false;
    for (uint64_t i = 0; i < count; i++)
        s->items[i] = jinja_int((int64_t)((uint64_t)start + i * (uint64_t)step));
    s->start = start;
    s->stop = stop;
    s->step = step;
    return true;
}

static const struct jinja_object_type range_type = {.name = "function", .call = range_call};

/* ---- dict(...) ---- */

/* dict(*args, **keywords) */
static bool fill_dict(struct jinja *j, const struct jinja_args *args, struct jinja_dict *dict)
{
    if (args->count > 1)
        return jinja_raise(j, "TypeError", "dict expected at most 1 argument, got %zu",
                           args->count);
    if (args->count == 1 && args->items[0].kind == JINJA_DICT) {
        const struct jinja_dict *from = args->items[0].dict;
        for (size_t i = 0; i < from->count; i++)
            if (!jinja_dict_put(j, dict, from->entries[i].key, from->entries[i].value))
                return false;
    } else if (args->count == 1) {
        return args->items[0].kind == JINJA_UNDEFINED
                   ? jinja_raise_undefined(j, args->items[0])
                   : jinja_refuse(j, "a dict or namespace of what is no dict");
    }
    for (size_t i = 0; i < args->n_keywords; i++)
        if (!jinja_dict_put(j, dict, jinja_of_string(args->keywords[i].name),
                            args->keywords[i].value))
            return false;
    return true;
}

static bool dict_call(struct jinja *j, struct jinja_object *self, const struct jinja_args *args,
                      struct jinja_value *out)
{
    (void)self;
    struct jinja_dict *dict = jinja_make_dict(j);
    if (!dict || !fill_dict(j, args, dict))
        return false;
    *out = jinja_of_dict(dict);
    return true;
}

static const struct jinja_object_type dict_type = {
    .name = "TemplateDict",
    .module = "transformers.utils.chat_template_utils",
    .call = dict_call,
};

/* ---- namespace ---- */

static bool check_name(struct jinja *j, struct jinja_value name)
{
    if (name.kind != JINJA_STRING || name.string->n == 0 || name.string->bytes[0] != '_')
        return true;
    return jinja_raise(j, "SecurityError",
                       "Chat templates cannot store underscore-prefixed attributes on a "
                       "namespace, but got %s. Please rename the attribute.",
                       jinja_repr_text(j, name));
}

static bool namespace_get(struct jinja *j, struct jinja_object *self,
                          const struct jinja_string *name, struct jinja_value *out, bool *found)
{
    const struct jinja_value *value = jinja_dict_get(j, self->state, jinja_of_string(name));
    *found = value != NULL;
    if (value)
        *out = *value;
    return !j->failed;
}

static bool namespace_set(struct jinja *j, struct jinja_object *self,
                          const struct jinja_string *name, struct jinja_value value)
{
    struct jinja_value key = jinja_of_string(name);
    return check_name(j, key) && jinja_dict_put(j, self->state, key, value);
}

static bool namespace_print(struct jinja *j, struct jinja_object *self, struct jinja_value *out)
{
    struct jinja_builder text = {0};
    return jinja_add_text(j, &text, "<Namespace ") &&
           jinja_add_repr(j, &text, jinja_of_dict(self->state)) && jinja_add_text(j, &text, ">") &&
           jinja_build(j, &text, out);
}

static const struct jinja_object_type namespace_type = {
    .name = "TemplateNamespace",
    .module = "transformers.utils.chat_template_utils",
    .get = namespace_get,
    .set = namespace_set,
    .print = namespace_print,
};

static bool namespace_call(struct jinja *j, struct jinja_object *self,
                           const struct jinja_args *args, struct jinja_value *out)
{
    (void)self;
    struct jinja_dict *dict = jinja_make_dict(j);
    if (!dict || !fill_dict(j, args, dict))
        return false;
    for (size_t i = 0; i < dict->count; i++)
        if (!check_name(j, dict->entries[i].key))
            return false;
    return jinja_make_object(j, &namespace_type, NULL, dict, out);
}

static const struct jinja_object_type namespace_maker = {.name = "type", .call = namespace_call};

/* ---- raise_exception, strftime_now ---- */

static bool raise_call(struct jinja *j, struct jinja_object *self, const struct jinja_args *args,
                       struct jinja_value *out)
{
    (void)self, (void)out;
    static const struct jinja_signature signature = {
        "_cached_compile_jinja_template.<locals>.raise_exception", "message", 1, 0, JINJA_BY_NAME};
    struct jinja_value message = jinja_none();
    const struct jinja_string *s;
    if (!jinja_bind(j, &signature, args, &message) || !jinja_to_string(j, message, &s))
        return false;
    return jinja_raise(j, "TemplateError", "%s", jinja_string_text(j, s));
}

static const struct jinja_object_type raise_type = {.name = "function", .call = raise_call};

static bool strftime_call(struct jinja *j, struct jinja_object *self, const struct jinja_args *args,
                          struct jinja_value *out)
{
    (void)self;
    static const struct jinja_signature signature = {
        "_cached_compile_jinja_template.<locals>.strftime_now", "format", 1, 0, JINJA_BY_NAME};
    struct jinja_value format = jinja_none();
    if (!jinja_bind(j, &signature, args, &format))
        return false;
    if (format.kind != JINJA_STRING)
        return jinja_raise(j, "TypeError", "strftime() argument 1 must be str, not %s",
                           jinja_type_name(format));
    return jinja_strftime(j, format.string, j->options ? j->options->now : 0, out);
}

static const struct jinja_object_type strftime_type = {.name = "function", .call = strftime_call};

/* jinja2's, which chat templates have no use for */
static bool refused_call(struct jinja *j, struct jinja_object *self, const struct jinja_args *args,
                         struct jinja_value *out)
{
    (void)args, (void)out;
    return jinja_refuse(j, "%s", self->type->name);
}

static const struct jinja_object_type cycler_type = {.name = "cycler", .call = refused_call};
static const struct jinja_object_type joiner_type = {.name = "joiner", .call = refused_call};
static const struct jinja_object_type lipsum_type = {.name = "lipsum", .call = refused_call};

bool jinja_find_global(struct jinja *j, const char *name, size_t n, struct jinja_value *out,
                       bool *found)
{
    static const struct {
        const char *name;
        const struct jinja_object_type *type;
    } globals[] = {
        {"range", &range_type},           {"dict", &dict_type},
        {"namespace", &namespace_maker},  {"cycler", &cycler_type},
        {"joiner", &joiner_type},         {"raise_exception", &raise_type},
        {"strftime_now", &strftime_type}, {"lipsum", &lipsum_type},
    };
    *found = false;
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        if (strlen(globals[i].name) != n || memcmp(globals[i].name, name, n) != 0)
            continue;
        *found = true;
        return jinja_make_object(j, globals[i].type, NULL, NULL, out);
    }
    return true;
}
