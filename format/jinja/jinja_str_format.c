/* str.format through the sandbox's formatter (Python's string.Formatter): fields look up attributes
 * and items as templates do. */
#include "jinja_spec.h"

#include <string.h>

enum { FIELDS_IN_FIELDS = 2 };

struct formatter {
    const struct jinja_args *args;
    int64_t next; /* number of the next field without one */
    bool manual;  /* a field had a number: none may lack one */
};

static bool format_part(struct jinja *j, struct formatter *f, const struct jinja_string *s,
                        int depth, struct jinja_builder *out);

/* ---- a.b[0] ---- */

/* Digits only make a number. */
static bool as_number(const struct jinja_string *s, int64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->bytes[i] < '0' || s->bytes[i] > '9' || __builtin_mul_overflow(*number, 10, number) ||
            __builtin_add_overflow(*number, s->bytes[i] - '0', number))
            return false;
    return s->n > 0;
}

static bool first_value(struct jinja *j, const struct formatter *f, const struct jinja_string *name,
                        struct jinja_value *out)
{
    int64_t place;
    if (as_number(name, &place)) {
        if ((uint64_t)place >= f->args->count)
            return jinja_raise(j, "IndexError", "tuple index out of range");
        *out = f->args->items[place];
        return true;
    }
    for (size_t i = 0; i < f->args->n_keywords; i++)
        if (jinja_same_string(f->args->keywords[i].name, name)) {
            *out = f->args->keywords[i].value;
            return true;
        }
    return jinja_raise(j, "KeyError", "%s", jinja_repr_text(j, jinja_of_string(name)));
}

/* One ".name" or "[key]" at *at */
static bool next_step(struct jinja *j, const struct jinja_string *s, size_t *at,
                      struct jinja_value *v)
{
    bool is_item = s->bytes[*at] == '[';
    struct jinja_value name;
    size_t begin = ++*at, end = begin;
    if (is_item) {
        const char *close = memchr(s->bytes + begin, ']', s->n - begin);
        if (!close)
            return jinja_raise(j, "ValueError", "Missing ']' in format string");
        end = (size_t)(close - s->bytes);
        *at = end + 1;
        if (*at < s->n && s->bytes[*at] != '.' && s->bytes[*at] != '[')
            return jinja_raise(j, "ValueError",
                               "Only '.' or '[' may follow ']' in format field specifier");
    } else {
        while (end < s->n && s->bytes[end] != '.' && s->bytes[end] != '[')
            end++;
        *at = end;
    }
    if (end == begin)
        return jinja_raise(j, "ValueError", "Empty attribute in format string");
    if (!jinja_substring(j, s, begin, end, &name))
        return false;
    int64_t number;
    if (is_item)
        return jinja_get_item(j, *v, as_number(name.string, &number) ? jinja_int(number) : name, v);
    return jinja_get_attribute(j, *v, name.string, v);
}

static bool field_value(struct jinja *j, struct formatter *f, const struct jinja_string *s,
                        struct jinja_value *out)
{
    int64_t number;
    struct jinja_value first;
    if (s->n == 0 || as_number(s, &number)) {
        if (s->n == 0 ? f->manual : f->next > 0)
            return jinja_raise(j, "ValueError",
                               "cannot switch from manual field specification to automatic "
                               "field numbering");
        if (s->n == 0) {
            if ((uint64_t)f->next >= f->args->count)
                return jinja_raise(j, "IndexError", "tuple index out of range");
            *out = f->args->items[f->next++];
            return true;
        }
        f->manual = true;
    }
    size_t at = 0;
    while (at < s->n && s->bytes[at] != '.' && s->bytes[at] != '[')
        at++;
    if (!jinja_substring(j, s, 0, at, &first) || !first_value(j, f, first.string, out))
        return false;
    while (at < s->n)
        if (!jinja_spend(j, 1) || !next_step(j, s, &at, out))
            return false;
    return true;
}

/* ---- {name!r:spec} ---- */

/* The end of the field that begins at byte at: its closing brace */
static bool field_end(struct jinja *j, const struct jinja_string *s, size_t at, size_t *end)
{
    int depth = 1;
    bool bracket = false, in_spec = false;
    for (size_t i = at; i < s->n; i++) {
        char c = s->bytes[i];
        if (bracket) {
            bracket = c != ']';
            continue;
        }
        if (c == '[' && !in_spec)
            bracket = true;
        else if ((c == ':' || c == '!') && depth == 1)
            in_spec = true;
        else if (c == '{')
            depth++;
        else if (c == '}' && --depth == 0) {
            *end = i;
            return true;
        }
    }
    bool later = in_spec;
    return jinja_raise(j, "ValueError",
                       later ? "unmatched '{' in format spec"
                             : "expected '}' before end of string");
}

static bool convert(struct jinja *j, char how, struct jinja_value v, struct jinja_value *out)
{
    *out = v;
    if (how == 0)
        return true;
    if (how == 's')
        return jinja_str(j, v, out);
    if (how == 'r' || how == 'a')
        return jinja_repr(j, v, out) && (how == 'r' || jinja_ascii(j, out->string, out));
    return jinja_raise(j, "ValueError", "Unknown conversion specifier %c", how);
}

static bool format_field(struct jinja *j, struct formatter *f, const struct jinja_string *s,
                         size_t begin, size_t end, int depth, struct jinja_builder *out)
{
    size_t i = begin;
    char how = 0;
    for (bool bracket = false; i < end; i++) {
        char c = s->bytes[i];
        if (!bracket && (c == ':' || c == '!'))
            break;
        if (!bracket && c == '{')
            return jinja_raise(j, "ValueError", "unexpected '{' in field name");
        bracket = bracket ? c != ']' : c == '[';
    }
    size_t name_end = i;
    if (i < end && s->bytes[i] == '!') {
        if (i + 1 == end)
            return jinja_raise(j, "ValueError", "unmatched '{' in format spec");
        how = s->bytes[i + 1];
        i += 2;
        if (i < end && s->bytes[i] != ':')
            return jinja_raise(j, "ValueError", "expected ':' after conversion specifier");
    }
    struct jinja_value name, v, spec;
    struct jinja_builder spec_text = {0};
    if (i < end)
        i++;
    if (!jinja_substring(j, s, begin, name_end, &name) || !jinja_substring(j, s, i, end, &spec) ||
        !field_value(j, f, name.string, &v) || !convert(j, how, v, &v) ||
        !format_part(j, f, spec.string, depth - 1, &spec_text) ||
        !jinja_build(j, &spec_text, &spec))
        return false;
    return jinja_add_formatted(j, out, v, spec.string);
}

static bool format_part(struct jinja *j, struct formatter *f, const struct jinja_string *s,
                        int depth, struct jinja_builder *out)
{
    if (depth < 0)
        return jinja_raise(j, "ValueError", "Max string recursion exceeded");
    if (!jinja_spend_bytes(j, s->n))
        return false;
    size_t begin = 0;
    for (size_t i = 0; i < s->n; i++) {
        char c = s->bytes[i];
        if (c != '{' && c != '}')
            continue;
        if (!jinja_add_part(j, out, s, begin, i))
            return false;
        if (i + 1 < s->n && s->bytes[i + 1] == c) { /* doubled: itself */
            begin = ++i;
            continue;
        }
        if (c == '}' || i + 1 == s->n)
            return jinja_raise(j, "ValueError", "Single '%c' encountered in format string", c);
        size_t end = 0;
        if (!jinja_spend(j, 1) || !field_end(j, s, i + 1, &end) ||
            !format_field(j, f, s, i + 1, end, depth, out))
            return false;
        i = end;
        begin = end + 1;
    }
    return jinja_add_part(j, out, s, begin, s->n);
}

bool jinja_str_format(struct jinja *j, const struct jinja_string *text,
                      const struct jinja_args *args, struct jinja_value *out)
{
    struct formatter f = {.args = args};
    struct jinja_builder b = {0};
    return format_part(j, &f, text, FIELDS_IN_FIELDS, &b) && jinja_build(j, &b, out);
}
