/* Attributes, items and calls: what a template may reach on a value, by the sandbox's rules. */
#include "jinja_methods.h"

#include <string.h>

/* ---- lists, tuples, ranges ---- */

static bool sequence_index(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                           struct jinja_value *out)
{
    const struct jinja_sequence *s = self.sequence;
    const char *type = s->type_name;
    bool is_range = self.kind == JINJA_RANGE;
    if (!jinja_positional(j, type, "index", 1, is_range ? 1 : 3, args))
        return false;
    struct jinja_walk walk;
    for (size_t i = 1; i < args->count; i++)
        if (!jinja_is_int(args->items[i]))
            return jinja_raise(j, "TypeError",
                               "slice indices must be integers or have an __index__ method");
    struct jinja_value start = args->count > 1 ? args->items[1] : jinja_none();
    struct jinja_value stop = args->count > 2 ? args->items[2] : jinja_none();
    if (!jinja_slice_walk(j, start, stop, jinja_none(), s->count, &walk))
        return false;
    for (size_t i = 0; i < walk.count; i++) {
        bool same;
        if (!jinja_equal(j, s->items[(size_t)walk.first + i], args->items[0], &same))
            return false;
        if (same) {
            *out = jinja_int(walk.first + (int64_t)i);
            return true;
        }
    }
    if (self.kind == JINJA_TUPLE)
        return jinja_raise(j, "ValueError", "tuple.index(x): x not in tuple");
    return jinja_raise(j, "ValueError", "%s is not in %s", jinja_repr_text(j, args->items[0]),
                       type);
}

static bool sequence_count(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                           struct jinja_value *out)
{
    const struct jinja_sequence *s = self.sequence;
    if (!jinja_positional(j, s->type_name, "count", 1, 1, args))
        return false;
    int64_t count = 0;
    for (size_t i = 0; i < s->count; i++) {
        bool same;
        if (!jinja_equal(j, s->items[i], args->items[0], &same))
            return false;
        count += same;
    }
    *out = jinja_int(count);
    return true;
}

static bool list_copy(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                      struct jinja_value *out)
{
    *out = self;
    return jinja_positional(j, "list", "copy", 0, 0, args);
}

static const struct jinja_named_function sequence_methods[] = {
    {"index", sequence_index},
    {"count", sequence_count},
};
static const struct jinja_named_function list_methods[] = {
    {"index", sequence_index},
    {"count", sequence_count},
    {"copy", list_copy},
};

/* ---- dicts ---- */

static bool dict_get(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                     struct jinja_value *out)
{
    uint64_t hash;
    if (!jinja_positional(j, "dict", "get", 1, 2, args))
        return false;
    if (!jinja_hash(j, args->items[0], 0, &hash))
        return jinja_raise(j, "TypeError", "unhashable type: '%s'",
                           jinja_type_name(args->items[0]));
    const struct jinja_value *found = jinja_dict_get(j, self.dict, args->items[0]);
    *out = found ? *found : args->count > 1 ? args->items[1] : jinja_none();
    return !j->failed;
}

static bool dict_view(struct jinja *j, struct jinja_value self, const char *name,
                      struct jinja_value *out)
{
    const struct jinja_dict *dict = self.dict;
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_VIEW, name, dict->count, out);
    if (!s)
        return false;
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

static bool dict_items(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                       struct jinja_value *out)
{
    return jinja_positional(j, "dict", "items", 0, 0, args) &&
           dict_view(j, self, "dict_items", out);
}

static bool dict_keys(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                      struct jinja_value *out)
{
    return jinja_positional(j, "dict", "keys", 0, 0, args) && dict_view(j, self, "dict_keys", out);
}

static bool dict_values(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                        struct jinja_value *out)
{
    return jinja_positional(j, "dict", "values", 0, 0, args) &&
           dict_view(j, self, "dict_values", out);
}

static bool dict_copy(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                      struct jinja_value *out)
{
    *out = self;
    return jinja_positional(j, "dict", "copy", 0, 0, args);
}

static const struct jinja_named_function dict_methods[] = {
    {"get", dict_get},       {"items", dict_items}, {"keys", dict_keys},
    {"values", dict_values}, {"copy", dict_copy},
};

/* ---- numbers ---- */

static bool int_bit_length(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                           struct jinja_value *out)
{
    if (!jinja_positional(j, "int", "bit_length", 0, 0, args))
        return false;
    int64_t i = jinja_int_of(self), bits = 0;
    for (uint64_t u = i < 0 ? -(uint64_t)i : (uint64_t)i; u; u >>= 1)
        bits++;
    *out = jinja_int(bits);
    return true;
}

static bool int_conjugate(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                          struct jinja_value *out)
{
    *out = self.kind == JINJA_BOOL ? jinja_int(self.boolean) : self;
    return jinja_positional(j, jinja_type_name(self), "conjugate", 0, 0, args);
}

static bool float_is_integer(struct jinja *j, struct jinja_value self,
                             const struct jinja_args *args, struct jinja_value *out)
{
    *out = jinja_bool(self.real - self.real == 0 && self.real == __builtin_trunc(self.real));
    return jinja_positional(j, "float", "is_integer", 0, 0, args);
}

static const struct jinja_named_function int_methods[] = {
    {"bit_length", int_bit_length},
    {"conjugate", int_conjugate},
};
static const struct jinja_named_function float_methods[] = {
    {"is_integer", float_is_integer},
    {"conjugate", int_conjugate},
};

/* Attributes of numbers that are no methods */
static bool number_attribute(struct jinja_value v, const struct jinja_string *name,
                             struct jinja_value *out)
{
    struct jinja_value self = v.kind == JINJA_BOOL ? jinja_int(v.boolean) : v;
    if (jinja_string_is(name, "real"))
        *out = self;
    else if (jinja_string_is(name, "imag"))
        *out = v.kind == JINJA_FLOAT ? jinja_float(0) : jinja_int(0);
    else if (v.kind != JINJA_FLOAT && jinja_string_is(name, "numerator"))
        *out = self;
    else if (v.kind != JINJA_FLOAT && jinja_string_is(name, "denominator"))
        *out = jinja_int(1);
    else
        return false;
    return true;
}

static bool range_attribute(struct jinja_value v, const struct jinja_string *name,
                            struct jinja_value *out)
{
    if (jinja_string_is(name, "start"))
        *out = jinja_int(v.sequence->start);
    else if (jinja_string_is(name, "stop"))
        *out = jinja_int(v.sequence->stop);
    else if (jinja_string_is(name, "step"))
        *out = jinja_int(v.sequence->step);
    else
        return false;
    return true;
}

/* ---- what has which ---- */

#define TABLE(name) (*count = sizeof(name) / sizeof *(name), name)

static const struct jinja_named_function *methods_of(struct jinja_value v, size_t *count)
{
    *count = 0;
    switch (v.kind) {
    case JINJA_STRING:
        return jinja_str_methods(count);
    case JINJA_LIST:
        return TABLE(list_methods);
    case JINJA_TUPLE:
    case JINJA_RANGE:
        return TABLE(sequence_methods);
    case JINJA_DICT:
        return TABLE(dict_methods);
    case JINJA_BOOL:
    case JINJA_INT:
        return TABLE(int_methods);
    case JINJA_FLOAT:
        return TABLE(float_methods);
    default:
        return NULL;
    }
}

static bool word_in(const char *words, const struct jinja_string *name)
{
    for (const char *at = words; *at; at += strcspn(at, " "), at += *at == ' ') {
        size_t n = strcspn(at, " ");
        if (n == name->n && memcmp(at, name->bytes, n) == 0)
            return true;
    }
    return false;
}

/* Attributes that Python's value has and the sandbox forbids */
static bool is_unsafe(struct jinja_value v, const struct jinja_string *name)
{
    static const char of_all[] =
        "__class__ __delattr__ __dir__ __doc__ __eq__ __format__ __ge__ __getattribute__ "
        "__getstate__ __gt__ __hash__ __init__ __init_subclass__ __le__ __lt__ __ne__ __new__ "
        "__reduce__ __reduce_ex__ __repr__ __setattr__ __sizeof__ __str__ __subclasshook__";
    static const char of_boxes[] = "__len__ __iter__ __contains__ __getitem__";
    static const char of_strings[] = "__add__ __mul__ __rmul__ __mod__ __rmod__ __getnewargs__";
    static const char of_numbers[] =
        "__abs__ __add__ __bool__ __divmod__ __float__ __floordiv__ __int__ __mod__ __mul__ "
        "__neg__ __pos__ __pow__ __radd__ __round__ __rsub__ __sub__ __truediv__ __trunc__";
    static const char of_lists[] =
        "append clear extend insert pop remove reverse sort __add__ __mul__ __rmul__ __iadd__ "
        "__imul__ __delitem__ __setitem__ __reversed__ __class_getitem__";
    static const char of_dicts[] =
        "clear pop popitem setdefault update __delitem__ __setitem__ __reversed__ __or__ __ror__ "
        "__ior__ __class_getitem__";
    if (v.kind == JINJA_OBJECT && v.object->type->set) /* a namespace has its own names only */
        return jinja_string_is(name, "__class__");
    if (name->n > 2 && name->bytes[0] == '_' && word_in(of_all, name))
        return true;
    if ((v.kind == JINJA_STRING || v.kind == JINJA_LIST || v.kind == JINJA_TUPLE ||
         v.kind == JINJA_DICT || v.kind == JINJA_RANGE) &&
        word_in(of_boxes, name))
        return true;
    if (v.kind == JINJA_STRING)
        return word_in(of_strings, name);
    if (jinja_is_number(v))
        return word_in(of_numbers, name);
    if (v.kind == JINJA_LIST)
        return word_in(of_lists, name);
    if (v.kind == JINJA_DICT)
        return word_in(of_dicts, name);
    return v.kind == JINJA_GENERATOR && word_in("gi_frame gi_code", name);
}

static bool method_call(struct jinja *j, struct jinja_object *self, const struct jinja_args *args,
                        struct jinja_value *out)
{
    const struct jinja_named_function *method = self->data;
    if (!method->function(j, self->bound, args, out))
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
    size_t count;
    const struct jinja_named_function *methods = methods_of(v, &count);
    *found = true;
    for (size_t i = 0; i < count; i++) {
        if (!jinja_string_is(name, methods[i].name))
            continue;
        if (!jinja_make_object(j, &method_type, &methods[i], NULL, out))
            return false;
        out->object->bound = v;
        return true;
    }
    if (jinja_is_number(v) && number_attribute(v, name, out))
        return true;
    if (v.kind == JINJA_RANGE && range_attribute(v, name, out))
        return true;
    if (v.kind == JINJA_TUPLE && v.sequence->type_name == jinja_group_type &&
        (jinja_string_is(name, "grouper") || jinja_string_is(name, "list"))) {
        *out = v.sequence->items[name->n == 4];
        return true;
    }
    if (is_unsafe(v, name))
        return jinja_make_unsafe(j, out, "access to attribute %s of '%s' object is unsafe.",
                                 jinja_repr_text(j, jinja_of_string(name)), jinja_type_name(v));
    *found = false;
    if (v.kind == JINJA_OBJECT && v.object->type->get)
        return v.object->type->get(j, v.object, name, out, found);
    return true;
}

const char *jinja_type_repr(struct jinja *j, struct jinja_value v)
{
    if (v.kind == JINJA_NONE)
        return "None";
    const char *module = v.kind == JINJA_OBJECT ? v.object->type->module : NULL;
    if (v.kind == JINJA_TUPLE && v.sequence->type_name == jinja_group_type)
        module = "jinja2.filters";
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
    return jinja_make_undefined(j, out, "'%s' has no attribute %s", jinja_type_repr(j, v),
                                jinja_repr_text(j, jinja_of_string(name)));
}

bool jinja_get_attribute(struct jinja *j, struct jinja_value v, const struct jinja_string *name,
                         struct jinja_value *out)
{
    if (v.kind == JINJA_UNDEFINED && !is_unsafe(v, name))
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
        return jinja_make_undefined(j, out, "%s has no element %s", jinja_type_repr(j, v),
                                    jinja_repr_text(j, key));
    if (!find_attribute(j, v, key.string, out, &found))
        return false;
    return found || no_attribute(j, v, key.string, out);
}

bool jinja_attribute_only(struct jinja *j, struct jinja_value v, const struct jinja_string *name,
                          struct jinja_value *out)
{
    bool found;
    if (v.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, v);
    if (!find_attribute(j, v, name, out, &found))
        return false;
    return found || no_attribute(j, v, name, out);
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
