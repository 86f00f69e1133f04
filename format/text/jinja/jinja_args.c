/* Arguments to parameters, with Python's complaints; tables of functions. */
#include "jinja_inside.h"

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

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

static bool too_many(struct jinja *j, const struct jinja_signature *s, int count, size_t given)
{
    int most = count + s->hidden, least = s->required + s->hidden;
    size_t all = given + (size_t)s->hidden;
    if (most == least)
        return jinja_raise(j, "TypeError", "%s() takes %d positional argument%s but %zu %s given",
                           s->function, most, plural((size_t)most), all, all == 1 ? "was" : "were");
    return jinja_raise(j, "TypeError",
                       "%s() takes from %d to %d positional arguments but %zu were given",
                       s->function, least, most, all);
}

static bool missing(struct jinja *j, const struct jinja_signature *s, const bool *given)
{
    size_t count = 0, n[2];
    const char *names[2];
    for (int i = 0; i < s->required; i++)
        if (!given[i]) {
            names[count] = name_of(s->names, i, &n[count]);
            count++;
        }
    if (count == 1)
        return jinja_raise(j, "TypeError", "%s() missing 1 required positional argument: '%.*s'",
                           s->function, (int)n[0], names[0]);
    return jinja_raise(j, "TypeError",
                       "%s() missing 2 required positional arguments: '%.*s' and '%.*s'",
                       s->function, (int)n[0], names[0], (int)n[1], names[1]);
}

/* The number of arguments to a function that is written in C, which counts in its own words */
static bool check_count(struct jinja *j, const struct jinja_signature *s, int count,
                        const struct jinja_args *args)
{
    size_t n = args->count, least = (size_t)s->required, most = (size_t)count;
    const char *dot = strrchr(s->function, '.'), *bare = dot ? dot + 1 : s->function;
    if (s->convention == JINJA_PARSED)
        return n + args->n_keywords <= most ||
               jinja_raise(j, "TypeError", "%s() takes at most %zu argument%s (%zu given)", bare,
                           most, plural(most), n + args->n_keywords);
    if (args->n_keywords)
        return jinja_raise(j, "TypeError", "%s() takes no keyword arguments", s->function);
    if (n >= least && n <= most)
        return true;
    size_t bound = n < least ? least : most;
    if (most == 0 && !dot) /* a filter or test: the value counts */
        return jinja_raise(j, "TypeError", "%s() takes exactly one argument (%zu given)", bare,
                           n + 1);
    if (most == 0)
        return jinja_raise(j, "TypeError", "%s() takes no arguments (%zu given)", s->function, n);
    if (least == 1 && most == 1 && !s->hidden)
        return jinja_raise(j, "TypeError", "%s() takes exactly one argument (%zu given)",
                           s->function, n);
    bound += (size_t)s->hidden;
    return jinja_raise(j, "TypeError", "%s expected %s%zu argument%s, got %zu", bare,
                       least == most ? ""
                       : n < least   ? "at least "
                                     : "at most ",
                       bound, plural(bound), n + (size_t)s->hidden);
}

static bool bind_keyword(struct jinja *j, const struct jinja_signature *s, int count,
                         const struct jinja_keyword *keyword, size_t positional, bool *given,
                         struct jinja_value *values)
{
    int at = 0;
    for (; at < count; at++) {
        size_t n;
        const char *known = name_of(s->names, at, &n);
        if (keyword->name->n == n && memcmp(keyword->name->bytes, known, n) == 0)
            break;
    }
    if (at == count)
        return jinja_raise(j, "TypeError", "%s() got an unexpected keyword argument '%s'",
                           s->function, jinja_string_text(j, keyword->name));
    if (given[at] || (size_t)at < positional)
        return jinja_raise(j, "TypeError", "%s() got multiple values for argument '%s'",
                           s->function, jinja_string_text(j, keyword->name));
    given[at] = true;
    values[at] = keyword->value;
    return true;
}

bool jinja_bind(struct jinja *j, const struct jinja_signature *s, const struct jinja_args *args,
                struct jinja_value *values)
{
    bool given[JINJA_PARAMETERS_MAX] = {false};
    int count = count_names(s->names);
    tp_assert(count <= JINJA_PARAMETERS_MAX && s->required <= 2);
    if (s->convention != JINJA_BY_NAME && !check_count(j, s, count, args))
        return false;
    for (size_t i = 0; i < args->n_keywords; i++)
        if (!bind_keyword(j, s, count, &args->keywords[i], args->count, given, values))
            return false;
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

bool jinja_apply(struct jinja *j, const struct jinja_builtin *builtin, struct jinja_value value,
                 const struct jinja_args *args, struct jinja_value *out)
{
    const struct jinja_signature *s = &builtin->signature;
    struct jinja_value values[JINJA_PARAMETERS_MAX] = {0}; /* all missing */
    if (s->convention == JINJA_AS_GIVEN)
        return builtin->function(j, value, args, out);
    struct jinja_args bound = {.items = values, .count = (size_t)count_names(s->names)};
    return jinja_bind(j, s, args, values) && builtin->function(j, value, &bound, out);
}

bool jinja_index(struct jinja *j, struct jinja_value v, int64_t *out)
{
    if (!jinja_is_int(v))
        return jinja_raise(j, "TypeError", "'%s' object cannot be interpreted as an integer",
                           jinja_type_name(v));
    *out = jinja_int_of(v);
    return true;
}

const struct jinja_builtin *jinja_find_builtin(const struct jinja_builtin *table, size_t count,
                                               const char *name, size_t n)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(table[i].name) == n && memcmp(table[i].name, name, n) == 0)
            return &table[i];
    return NULL;
}

bool jinja_word_in(const char *words, const char *name, size_t n)
{
    for (const char *at = words; *at; at += strcspn(at, " "), at += *at == ' ')
        if (strcspn(at, " ") == n && memcmp(at, name, n) == 0)
            return true;
    return false;
}
