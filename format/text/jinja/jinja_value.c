/* Memory, budget and errors of a rendering, and the simple values. */
#include "jinja_inside.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void *jinja_alloc(struct jinja *j, uint64_t bytes)
{
    if (bytes > JINJA_MEMORY_MAX || j->arena.total + bytes > JINJA_MEMORY_MAX) {
        jinja_stop(j, JINJA_LIMIT, "the template's values need more than %llu MiB",
                   (unsigned long long)(JINJA_MEMORY_MAX >> 20));
        return NULL;
    }
    struct tp_error err = {0};
    void *p = mem_arena_alloc(&j->arena, bytes, &err);
    if (!p)
        jinja_stop(j, JINJA_MEMORY, "%s", err.text);
    return p;
}

void *jinja_array(struct jinja *j, uint64_t count, size_t size)
{
    if (count > JINJA_MEMORY_MAX / size)
        count = JINJA_MEMORY_MAX / size + 1; /* refused below */
    return jinja_alloc(j, count * size);
}

bool jinja_spend(struct jinja *j, uint64_t steps)
{
    if (j->failed)
        return false;
    if (steps > j->steps_left) {
        j->steps_left = 0;
        return jinja_stop(j, JINJA_LIMIT, "the template takes more than %u steps", JINJA_STEPS_MAX);
    }
    j->steps_left -= steps;
    return true;
}

bool jinja_spend_bytes(struct jinja *j, uint64_t bytes)
{
    return jinja_spend(j, bytes / JINJA_BYTES_PER_STEP + 1);
}

bool jinja_enter(struct jinja *j)
{
    if (j->depth >= JINJA_DEPTH_MAX)
        return jinja_stop(j, JINJA_LIMIT, "nested deeper than %d", JINJA_DEPTH_MAX);
    j->depth++;
    return true;
}

void jinja_leave(struct jinja *j)
{
    j->depth--;
}

/* ---- errors ---- */

__attribute__((format(printf, 4, 0))) static bool fail(struct jinja *j, enum jinja_failure failure,
                                                       const char *type, const char *format,
                                                       va_list list)
{
    if (j->failed)
        return false;
    j->failed = true;
    if (!j->error || j->error->text)
        return false;
    va_list again;
    va_copy(again, list);
    int n = vsnprintf(NULL, 0, format, again);
    va_end(again);
    size_t prefix = type ? strlen(type) + 2 : 0;
    struct tp_error err = {0};
    char *text = mem_alloc(prefix + (size_t)(n > 0 ? n : 0) + 1, &err);
    if (text && type)
        snprintf(text, prefix + 1, "%s: ", type);
    if (text && n > 0)
        vsnprintf(text + prefix, (size_t)n + 1, format, list);
    j->error->failure = text ? failure : JINJA_MEMORY;
    j->error->text = text;
    j->error->line = j->line;
    j->error->column = 0;
    return false;
}

bool jinja_raise(struct jinja *j, const char *type, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fail(j, JINJA_RUNTIME, type, format, list);
    va_end(list);
    return false;
}

bool jinja_stop(struct jinja *j, enum jinja_failure failure, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fail(j, failure, NULL, format, list);
    va_end(list);
    return false;
}

bool jinja_raise_undefined(struct jinja *j, struct jinja_value value)
{
    tp_assert(value.kind == JINJA_UNDEFINED);
    const char *type = value.undefined->exception;
    return jinja_raise(j, type ? type : "UndefinedError", "%s", value.undefined->message);
}

/* ---- simple values ---- */

bool jinja_make_undefined(struct jinja *j, struct jinja_value *out, const char *format, ...)
{
    va_list list, again;
    va_start(list, format);
    va_copy(again, list);
    int n = vsnprintf(NULL, 0, format, again);
    va_end(again);
    size_t size = (size_t)(n > 0 ? n : 0) + 1;
    struct jinja_undefined *u = jinja_spend_bytes(j, size) ? jinja_alloc(j, sizeof *u) : NULL;
    char *text = u ? jinja_alloc(j, size) : NULL;
    if (text && n > 0)
        vsnprintf(text, size, format, list);
    va_end(list);
    if (!text)
        return false;
    u->message = text;
    *out = (struct jinja_value){.kind = JINJA_UNDEFINED, .undefined = u};
    return true;
}

struct jinja_sequence *jinja_new_sequence(struct jinja *j, enum jinja_kind kind, size_t count,
                                          struct jinja_value *out)
{
    static const char *const names[] = {[JINJA_LIST] = "list",
                                        [JINJA_TUPLE] = "tuple",
                                        [JINJA_GENERATOR] = "generator",
                                        [JINJA_RANGE] = "range",
                                        [JINJA_VIEW] = "dict_items"};
    if (!jinja_spend(j, count + 1))
        return NULL;
    struct jinja_sequence *s = jinja_alloc(j, sizeof *s);
    if (!s)
        return NULL;
    s->items = jinja_array(j, count, sizeof *s->items);
    if (!s->items)
        return NULL;
    s->count = count;
    s->type_name = names[kind];
    if (kind == JINJA_GENERATOR && !(s->taken = jinja_alloc(j, sizeof *s->taken)))
        return NULL;
    *out = (struct jinja_value){.kind = kind, .sequence = s};
    return s;
}

bool jinja_make_sequence(struct jinja *j, enum jinja_kind kind, const struct jinja_value *items,
                         size_t count, struct jinja_value *out)
{
    struct jinja_sequence *s = jinja_new_sequence(j, kind, count, out);
    if (!s)
        return false;
    if (count)
        memcpy(s->items, items, count * sizeof *items);
    return true;
}

bool jinja_push(struct jinja *j, struct jinja_items *list, struct jinja_value item)
{
    if (list->count == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 8;
        struct jinja_value *items = jinja_array(j, cap, sizeof *items);
        if (!items)
            return false;
        if (list->count)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->cap = cap;
    }
    list->items[list->count++] = item;
    return jinja_spend(j, 1);
}

/* The list's own memory: nobody may push afterwards. */
bool jinja_take_items(struct jinja *j, struct jinja_items *list, enum jinja_kind kind,
                      struct jinja_value *out)
{
    struct jinja_sequence *s = jinja_new_sequence(j, kind, 0, out);
    if (!s)
        return false;
    if (list->count)
        s->items = list->items;
    s->count = list->count;
    *list = (struct jinja_items){0};
    return true;
}

bool jinja_make_object(struct jinja *j, const struct jinja_object_type *type, const void *data,
                       void *state, struct jinja_value *out)
{
    struct jinja_object *object = jinja_alloc(j, sizeof *object);
    if (!object)
        return false;
    object->type = type;
    object->bound = jinja_none();
    object->data = data;
    object->state = state;
    *out = (struct jinja_value){.kind = JINJA_OBJECT, .object = object};
    return true;
}

static bool array_from_json(struct jinja *j, const json_t *json, bool data, struct jinja_value *out)
{
    size_t count = json_array_size(json);
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_LIST, count, out);
    if (!s)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!jinja_from_json(j, json_array_get(json, i), data, &s->items[i]))
            return false;
    return true;
}

static bool object_from_json(struct jinja *j, const json_t *json, bool data,
                             struct jinja_value *out)
{
    struct jinja_dict *dict = jinja_make_dict(j);
    if (!dict)
        return false;
    const char *name;
    json_t *item;
    json_object_foreach((json_t *)(uintptr_t)json, name, item)
    {
        struct jinja_value key, value;
        if (!jinja_make_string(j, name, strlen(name), data, &key) ||
            !jinja_from_json(j, item, data, &value) || !jinja_dict_put(j, dict, key, value))
            return false;
    }
    *out = jinja_of_dict(dict);
    return true;
}

bool jinja_from_json(struct jinja *j, const json_t *json, bool data, struct jinja_value *out)
{
    if (!jinja_spend(j, 1))
        return false;
    switch (json ? json_typeof(json) : JSON_NULL) {
    case JSON_NULL:
        *out = jinja_none();
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = jinja_bool(json_is_true(json));
        return true;
    case JSON_INTEGER:
        *out = jinja_int(json_integer_value(json));
        return true;
    case JSON_REAL:
        *out = jinja_float(json_real_value(json));
        return true;
    case JSON_STRING:
        return jinja_make_string(j, json_string_value(json), json_string_length(json), data, out);
    default:
        break;
    }
    if (!jinja_enter(j))
        return false;
    bool ok = json_is_array(json) ? array_from_json(j, json, data, out)
                                  : object_from_json(j, json, data, out);
    jinja_leave(j);
    return ok;
}
