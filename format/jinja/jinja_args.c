/* Arguments to parameters, with Python's complaints. */
#include "jinja_inside.h"

#include <stdio.h>
#include <string.h>

/* Name i of "a b c" */
static const char *name_of(const char *names, int i, size_t *n)
{
    for (; i > 0; i--)
        names += strcspn(names, " ") + 1;
    *n = strcspn(names, " ");
    return names;
}

static int count_names(const char *names)
{
    int n = *names != '\0';
    for (const char *c = names; *c; c++)
        n += *c == ' ';
    return n;
}

static bool too_many(struct jinja *j, const struct jinja_signature *s, int count, size_t given)
{
    int most = count + s->hidden, least = s->required + s->hidden;
    size_t all = given + (size_t)s->hidden;
    if (most == least)
        return jinja_raise(j, "TypeError", "%s() takes %d positional argument%s but %zu %s given",
                           s->function, most, most == 1 ? "" : "s", all, all == 1 ? "was" : "were");
    return jinja_raise(j, "TypeError",
                       "%s() takes from %d to %d positional arguments but %zu were given",
                       s->function, least, most, all);
}

static bool missing(struct jinja *j, const struct jinja_signature *s, const bool *given)
{
    char list[256] = "";
    size_t at = 0;
    int left = 0, total;
    for (int i = 0; i < s->required; i++)
        left += !given[i];
    total = left;
    for (int i = 0; i < s->required; i++) {
        size_t n;
        const char *name = name_of(s->names, i, &n);
        if (given[i])
            continue;
        left--;
        const char *link = left == 0 ? "" : left > 1 ? ", " : total == 2 ? " and " : ", and ";
        at += (size_t)snprintf(list + at, sizeof list - at, "'%.*s'%s", (int)n, name, link);
    }
    return jinja_raise(j, "TypeError", "%s() missing %d required positional argument%s: %s",
                       s->function, total, total == 1 ? "" : "s", list);
}

bool jinja_bind(struct jinja *j, const struct jinja_signature *s, const struct jinja_args *args,
                struct jinja_value *values)
{
    bool given[JINJA_PARAMETERS_MAX] = {false};
    int count = count_names(s->names);
    tp_assert(count <= JINJA_PARAMETERS_MAX);
    for (size_t i = 0; i < args->n_keywords; i++) {
        const struct jinja_string *name = args->keywords[i].name;
        int at = 0;
        for (; at < count; at++) {
            size_t n;
            const char *known = name_of(s->names, at, &n);
            if (name->n == n && memcmp(name->bytes, known, n) == 0)
                break;
        }
        if (at == count)
            return jinja_raise(j, "TypeError", "%s() got an unexpected keyword argument '%s'",
                               s->function, jinja_string_text(j, name));
        if (given[at] || (size_t)at < args->count)
            return jinja_raise(j, "TypeError", "%s() got multiple values for argument '%s'",
                               s->function, jinja_string_text(j, name));
        given[at] = true;
        values[at] = args->keywords[i].value;
    }
    if (args->count > (size_t)count)
        return too_many(j, s, count, args->count);
    for (size_t i = 0; i < args->count; i++) {
        given[i] = true;
        values[i] = args->items[i];
    }
    for (int i = 0; i < s->required; i++)
        if (!given[i])
            return missing(j, s, given);
    return true;
}

bool jinja_positional(struct jinja *j, const char *type, const char *function, size_t min,
                      size_t max, const struct jinja_args *args)
{
    const char *dot = *type ? "." : "";
    size_t n = args->count;
    if (args->n_keywords)
        return jinja_raise(j, "TypeError", "%s%s%s() takes no keyword arguments", type, dot,
                           function);
    if (n >= min && n <= max)
        return true;
    if (max == 0 && !*type) /* a filter or test: the value counts */
        return jinja_raise(j, "TypeError", "%s() takes exactly one argument (%zu given)", function,
                           n + 1);
    if (max == 0)
        return jinja_raise(j, "TypeError", "%s%s%s() takes no arguments (%zu given)", type, dot,
                           function, n);
    if (min == 1 && max == 1)
        return jinja_raise(j, "TypeError", "%s%s%s() takes exactly one argument (%zu given)", type,
                           dot, function, n);
    size_t bound = n < min ? min : max;
    return jinja_raise(j, "TypeError", "%s expected %s%zu argument%s, got %zu", function,
                       min == max ? ""
                       : n < min  ? "at least "
                                  : "at most ",
                       bound, bound == 1 ? "" : "s", n);
}

bool jinja_index(struct jinja *j, struct jinja_value v, int64_t *out)
{
    if (!jinja_is_int(v))
        return jinja_raise(j, "TypeError", "'%s' object cannot be interpreted as an integer",
                           jinja_type_name(v));
    *out = jinja_int_of(v);
    return true;
}

jinja_function *jinja_find_function(const struct jinja_named_function *table, size_t count,
                                    const char *name, size_t n)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(table[i].name) == n && memcmp(table[i].name, name, n) == 0)
            return table[i].function;
    return NULL;
}
