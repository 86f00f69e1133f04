/* Attributes, items and calls: what a template may reach on a value, by the sandbox's rules. */
#include "jinja_filters.h"

#include <string.h>

#define METHOD(name)                                                                               \
    static bool name(struct jinja *j, struct jinja_value self,                                     \
                     __attribute__((unused)) const struct jinja_args *args,                        \
                     struct jinja_value *out)

/* ---- dicts ---- */

METHOD(dict_get)
{
    struct jinja_value key = args->items[0];
    uint64_t hash;
    if (!jinja_hash(j, key, 0, &hash))
        return jinja_raise(j, "TypeError", "unhashable type: '%s'", jinja_type_name(key));
    const struct jinja_value *found = jinja_dict_get(j, self.dict, key);
    *out = found ? *found : jinja_or(args->items[1], jinja_none());
    return !j->failed;
}

static bool dict_view(struct jinja *j, struct jinja_value self, const char *name,
                      struct jinja_value *out)
{
    const struct jinja_dict *dict = self.dict;
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_VIEW, dict->count, out);
    if (!s)
        return false;
    s->type_name = name;
    char what = name[5]; /* dict_items, dict_keys, dict_values */
    for (size_t i = 0; i < dict->count; i++) {
        const struct jinja_entry *entry = &dict->entries[i];
        struct jinja_value pair[2] = {entry->key, entry->value};
        if (what != 'i')
            s->items[i] = pair[what == 'v'];
        else if (!jinja_make_sequence(j, JINJA_TUPLE, pair, 2, &s->items[i]))
            return false;
    }
    return true;
}

#define VIEW_METHOD(name)                                                                          \
    METHOD(name)                                                                                   \
    {                                                                                              \
        return dict_view(j, self, #name, out);                                                     \
    }
VIEW_METHOD(dict_items)
VIEW_METHOD(dict_keys)
VIEW_METHOD(dict_values)

static const struct jinja_builtin dict_methods[] = {
    {"get", dict_get, {"dict.get", "key default", 1, 0, JINJA_BY_POSITION}},
    {"items", dict_items, {"dict.items", "", 0, 0, JINJA_BY_POSITION}},
    {"keys", dict_keys, {"dict.keys", "", 0, 0, JINJA_BY_POSITION}},
    {"values", dict_values, {"dict.values", "", 0, 0, JINJA_BY_POSITION}},
};

/* ---- what has which ---- */

static const struct jinja_builtin *find_method(struct jinja_value v,
                                               const struct jinja_string *name)
{
    size_t count = sizeof dict_methods / sizeof *dict_methods;
    if (v.kind == JINJA_STRING)
        return jinja_find_builtin(jinja_str_methods, jinja_str_methods_count, name->bytes, name->n);
    return v.kind == JINJA_DICT ? jinja_find_builtin(dict_methods, count, name->bytes, name->n)
                                : NULL;
}

/* Methods of str that are not there: the parser finds their calls. */
bool jinja_refused_method(const char *name, size_t n)
{
    return jinja_word_in("casefold center encode expandtabs format_map isalnum isalpha isascii "
                         "isdecimal isdigit isidentifier islower isnumeric isprintable isspace "
                         "istitle isupper ljust maketrans partition removeprefix removesuffix "
                         "rfind rindex rjust rpartition swapcase translate zfill",
                         name, n);
}

/* What else Python has of a value */
static bool is_refused(struct jinja_value v, const struct jinja_string *name)
{
    const char *words = v.kind == JINJA_STRING  ? "index"
                        : v.kind == JINJA_LIST  ? "copy count index"
                        : v.kind == JINJA_TUPLE ? "count index"
                        : v.kind == JINJA_DICT  ? "copy"
                        : v.kind == JINJA_RANGE ? "count index start stop step"
                        : v.kind == JINJA_FLOAT ? "real imag conjugate is_integer"
                        : jinja_is_int(v) ? "real imag numerator denominator conjugate bit_length"
                                          : "";
    return jinja_word_in(words, name->bytes, name->n) ||
           (v.kind == JINJA_STRING && jinja_refused_method(name->bytes, name->n));
}

/* Attributes that Python's value has and the sandbox forbids; of those with two underscores all
 * count as there. */
static bool is_unsafe(struct jinja_value v, const struct jinja_string *name)
{
    const char *words = v.kind == JINJA_LIST ? "append clear extend insert pop remove reverse sort"
                        : v.kind == JINJA_DICT ? "clear pop popitem setdefault update"
                                               : "";
    return jinja_word_in(words, name->bytes, name->n) ||
           (name->n > 4 && memcmp(name->bytes, "__", 2) == 0 &&
            memcmp(name->bytes + name->n - 2, "__", 2) == 0);
}

static bool method_call(struct jinja *j, struct jinja_object *self, const struct jinja_args *args,
                        struct jinja_value *out)
{
    if (!jinja_apply(j, self->data, self->bound, args, out))
        return false;
    if (self->bound.kind == JINJA_STRING && self->bound.string->safe && out->kind == JINJA_STRING)
        return jinja_mark_safe(j, *out, out);
    return true;
}

static const struct jinja_object_type method_type = {.name = "builtin_function_or_method",
                                                     .call = method_call};

/* An attribute in Python's sense, never an item. */
static bool find_attribute(struct jinja *j, struct jinja_value v, const struct jinja_string *name,
                           struct jinja_value *out, bool *found)
{
    const struct jinja_builtin *method = find_method(v, name);
    *found = true;
    if (method) {
        if (!jinja_make_object(j, &method_type, method, NULL, out))
            return false;
        out->object->bound = v;
        return true;
    }
    if (is_refused(v, name))
        return jinja_refuse(j, "%s.%s", jinja_type_name(v), jinja_string_text(j, name));
    if (is_unsafe(v, name)) {
        if (!jinja_make_undefined(j, out, "access to attribute %s of '%s' object is unsafe.",
                                  jinja_repr_text(j, jinja_of_string(name)), jinja_type_name(v)))
            return false;
        out->undefined->exception = "SecurityError";
        return true;
    }
    *found = false;
    if (v.kind == JINJA_OBJECT && v.object->type->get)
        return v.object->type->get(j, v.object, name, out, found);
    return true;
}

/* "list object", "None", "jinja2.runtime.Macro object": jinja2's object_type_repr */
static const char *type_repr(struct jinja *j, struct jinja_value v)
{
    if (v.kind == JINJA_NONE)
        return "None";
    const char *module = v.kind == JINJA_OBJECT ? v.object->type->module : NULL;
    if (v.kind == JINJA_STRING && v.string->safe)
        module = "markupsafe";
    struct jinja_builder text = {0};
    struct jinja_value out;
    if ((module && (!jinja_add_text(j, &text, module) || !jinja_add_text(j, &text, "."))) ||
        !jinja_add_text(j, &text, jinja_type_name(v)) || !jinja_add_text(j, &text, " object") ||
        !jinja_build(j, &text, &out))
        return "";
    return jinja_string_text(j, out.string);
}

static bool no_attribute(struct jinja *j, struct jinja_value v, const struct jinja_string *name,
                         struct jinja_value *out)
{
    return jinja_make_undefined(j, out, "'%s' has no attribute %s", type_repr(j, v),
                                jinja_repr_text(j, jinja_of_string(name)));
}

bool jinja_get_attribute(struct jinja *j, struct jinja_value v, const struct jinja_string *name,
                         struct jinja_value *out)
{
    if (v.kind == JINJA_UNDEFINED && !jinja_string_is(name, "__class__"))
        return jinja_raise_undefined(j, v);
    bool found;
    if (!find_attribute(j, v, name, out, &found))
        return false;
    if (found)
        return true;
    if (v.kind == JINJA_DICT) {
        const struct jinja_value *item = jinja_dict_get(j, v.dict, jinja_of_string(name));
        if (j->failed)
            return false;
        if (item) {
            *out = *item;
            return true;
        }
    }
    return no_attribute(j, v, name, out);
}

/* v[key] without attributes; *found false: none */
static bool find_item(struct jinja *j, struct jinja_value v, struct jinja_value key,
                      struct jinja_value *out, bool *found)
{
    *found = false;
    if (v.kind == JINJA_DICT) {
        const struct jinja_value *item = jinja_dict_get(j, v.dict, key);
        *found = item != NULL;
        if (item)
            *out = *item;
        return !j->failed;
    }
    bool indexed = v.kind == JINJA_LIST || v.kind == JINJA_TUPLE || v.kind == JINJA_RANGE ||
                   v.kind == JINJA_STRING;
    if (!indexed || !jinja_is_int(key))
        return true;
    int64_t i = jinja_int_of(key);
    int64_t n = (int64_t)(v.kind == JINJA_STRING ? v.string->n_chars : v.sequence->count);
    if (i < 0)
        i += n;
    if (i < 0 || i >= n)
        return true;
    *found = true;
    if (v.kind != JINJA_STRING) {
        *out = v.sequence->items[i];
        return true;
    }
    size_t begin, end;
    if (!jinja_byte_of(j, v.string, (size_t)i, &begin))
        return false;
    jinja_char_at(v.string, begin, &end);
    return jinja_substring(j, v.string, begin, begin + end, out);
}

bool jinja_get_item(struct jinja *j, struct jinja_value v, struct jinja_value key,
                    struct jinja_value *out)
{
    bool found;
    if (v.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, v);
    if (!find_item(j, v, key, out, &found))
        return false;
    if (found)
        return true;
    if (key.kind != JINJA_STRING)
        return jinja_make_undefined(j, out, "%s has no element %s", type_repr(j, v),
                                    jinja_repr_text(j, key));
    if (!find_attribute(j, v, key.string, out, &found))
        return false;
    return found || no_attribute(j, v, key.string, out);
}

bool jinja_call(struct jinja *j, struct jinja_value callee, const struct jinja_args *args,
                struct jinja_value *out)
{
    if (callee.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, callee);
    if (callee.kind != JINJA_OBJECT || !callee.object->type->call)
        return jinja_raise(j, "TypeError", "'%s' object is not callable", jinja_type_name(callee));
    return callee.object->type->call(j, callee.object, args, out);
}
