/* printf-style formatting: text % values. */
#include "jinja_spec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct percent {
    const struct jinja_string *text;
    size_t at; /* byte in text */
    const struct jinja_value *values;
    size_t n_values, next;
    struct jinja_value mapping; /* what (key) asks; JINJA_NONE: nothing */
    struct jinja_builder out;
};

static bool incomplete(struct jinja *j)
{
    return jinja_raise(j, "ValueError", "incomplete format");
}

static bool next_value(struct jinja *j, struct percent *p, struct jinja_value *v)
{
    if (p->next >= p->n_values)
        return jinja_raise(j, "TypeError", "not enough arguments for format string");
    *v = p->values[p->next++];
    return true;
}

/* %(key): the value of the mapping */
static bool keyed_value(struct jinja *j, struct percent *p, struct jinja_value *v)
{
    size_t begin = p->at, depth = 1;
    if (p->mapping.kind == JINJA_NONE)
        return jinja_raise(j, "TypeError", "format requires a mapping");
    for (; p->at < p->text->n && depth; p->at++)
        depth += p->text->bytes[p->at] == '(' ? 1 : p->text->bytes[p->at] == ')' ? (size_t)-1 : 0;
    if (depth)
        return jinja_raise(j, "ValueError", "incomplete format key");
    struct jinja_value key;
    if (!jinja_substring(j, p->text, begin, p->at - 1, &key))
        return false;
    if (p->mapping.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, p->mapping);
    if (p->mapping.kind != JINJA_DICT)
        return jinja_raise(j, "TypeError", "%s indices must be integers or slices, not str",
                           jinja_type_name(p->mapping));
    const struct jinja_value *found = jinja_dict_get(j, p->mapping.dict, key);
    if (!found)
        return jinja_raise(j, "KeyError", "%s", jinja_repr_text(j, key));
    *v = *found;
    return true;
}

/* A number or *; -1: none */
static bool read_count(struct jinja *j, struct percent *p, int64_t *count)
{
    const struct jinja_string *s = p->text;
    *count = -1;
    if (p->at < s->n && s->bytes[p->at] == '*') {
        struct jinja_value v;
        p->at++;
        if (!next_value(j, p, &v))
            return false;
        if (!jinja_is_int(v))
            return jinja_raise(j, "TypeError", "* wants int");
        *count = jinja_int_of(v);
        if (*count > INT32_MAX || *count < -INT32_MAX)
            return jinja_raise(j, "OverflowError", "Python int too large to convert to C int");
        return true;
    }
    for (; p->at < s->n && s->bytes[p->at] >= '0' && s->bytes[p->at] <= '9'; p->at++) {
        *count = (*count < 0 ? 0 : *count) * 10 + (s->bytes[p->at] - '0');
        if (*count > INT32_MAX)
            return jinja_raise(j, "ValueError", "width too big");
    }
    return true;
}

/* Flags, width, precision, length, type after % and key. left: padded at the right */
static bool read_spec(struct jinja *j, struct percent *p, struct jinja_spec *spec)
{
    const struct jinja_string *s = p->text;
    bool left = false;
    for (; p->at < s->n && s->bytes[p->at] && strchr("-+ #0", s->bytes[p->at]); p->at++) {
        char c = s->bytes[p->at];
        left |= c == '-';
        spec->alternate |= c == '#';
        spec->zero |= c == '0';
        if (c == '+' || (c == ' ' && spec->sign != '+'))
            spec->sign = c;
    }
    if (!read_count(j, p, &spec->width))
        return false;
    if (spec->width < -1) {
        left = true;
        spec->width = -spec->width;
    }
    if (p->at < s->n && s->bytes[p->at] == '.') {
        p->at++;
        if (!read_count(j, p, &spec->precision))
            return false;
        if (spec->precision < 0)
            spec->precision = 0;
    }
    if (p->at < s->n && s->bytes[p->at] && strchr("hlL", s->bytes[p->at]))
        p->at++;
    if (p->at >= s->n)
        return incomplete(j);
    spec->align = left ? '<' : '>';
    spec->data = jinja_mark_at(s, p->at);
    spec->type = s->bytes[p->at++];
    return true;
}

static bool add_text(struct jinja *j, struct percent *p, struct jinja_spec *spec,
                     struct jinja_value v)
{
    struct jinja_value text;
    struct jinja_builder plain = {0};
    bool ok = spec->type == 's' ? jinja_str(j, v, &text) : jinja_repr(j, v, &text);
    if (ok && spec->type == 's' && p->text->safe)
        ok = jinja_add_escaped(j, &plain, text.string) && jinja_build(j, &plain, &text);
    if (ok && spec->type == 'a')
        ok = jinja_ascii(j, text.string, &text);
    if (ok && spec->precision >= 0)
        ok =
            jinja_get_slice(j, text, jinja_none(), jinja_int(spec->precision), jinja_none(), &text);
    return ok && jinja_add_field(j, &p->out, spec, text.string, 0);
}

static bool add_char(struct jinja *j, struct percent *p, const struct jinja_spec *spec,
                     struct jinja_value v)
{
    struct jinja_builder one = {0};
    if (v.kind == JINJA_STRING && v.string->n_chars == 1)
        return jinja_add_field(j, &p->out, spec, v.string, 0);
    if (!jinja_is_int(v))
        return jinja_raise(j, "TypeError", "%%c requires int or char");
    int64_t i = jinja_int_of(v);
    if (i < 0 || i > 0x10ffff || (i >= 0xd800 && i <= 0xdfff))
        return jinja_raise(j, "OverflowError", "%%c arg not in range(0x110000)");
    return jinja_add_char(j, &one, (uint32_t)i, false) && jinja_build(j, &one, &v) &&
           jinja_add_field(j, &p->out, spec, v.string, 0);
}

/* Digits up to the precision with zeros in front */
static bool add_long_integer(struct jinja *j, struct percent *p, const struct jinja_spec *spec,
                             int64_t i)
{
    static const struct jinja_string zero = {.bytes = "0", .n = 1, .n_chars = 1};
    struct jinja_spec bare = *spec;
    struct jinja_builder digits = {0}, text = {0};
    struct jinja_value v;
    bare.width = -1;
    if (!jinja_add_integer(j, &digits, &bare, i) || !jinja_build(j, &digits, &v))
        return false;
    const struct jinja_string *s = v.string;
    size_t sign = (size_t)(s->bytes[0] == '-' || s->bytes[0] == '+' || s->bytes[0] == ' ');
    if (spec->alternate && spec->type != 'd')
        sign += 2;
    int64_t more = spec->precision - (int64_t)(s->n - sign);
    return jinja_add_part(j, &text, s, 0, sign) &&
           jinja_add_fill(j, &text, &zero, more > 0 ? (uint64_t)more : 0) &&
           jinja_add_part(j, &text, s, sign, s->n) && jinja_build(j, &text, &v) &&
           jinja_add_field(j, &p->out, spec, v.string, sign);
}

static bool add_integer(struct jinja *j, struct percent *p, struct jinja_spec *spec,
                        struct jinja_value v)
{
    int64_t i = 0;
    char type = spec->type;
    if (v.kind == JINJA_UNDEFINED && type != 'x' && type != 'X' && type != 'o')
        return jinja_raise_undefined(j, v);
    if (v.kind == JINJA_FLOAT && (type == 'd' || type == 'i' || type == 'u')) {
        if (!jinja_float_to_int(j, v.real, &i))
            return false;
    } else if (jinja_is_int(v)) {
        i = jinja_int_of(v);
    } else {
        bool whole = type == 'x' || type == 'X' || type == 'o';
        return jinja_raise(j, "TypeError", "%%%c format: %s is required, not %s", type,
                           whole ? "an integer" : "a real number", jinja_type_name(v));
    }
    if (type == 'i' || type == 'u')
        spec->type = 'd';
    return spec->precision > 0 ? add_long_integer(j, p, spec, i)
                               : jinja_add_integer(j, &p->out, spec, i);
}

static bool add_one(struct jinja *j, struct percent *p, struct jinja_spec *spec,
                    struct jinja_value v)
{
    size_t place = p->at - 1;
    if (spec->type == 's' || spec->type == 'r' || spec->type == 'a')
        return add_text(j, p, spec, v);
    if (spec->type == 'c')
        return add_char(j, p, spec, v);
    if (spec->zero && spec->align != '<') {
        spec->align = '=';
        spec->fill = '0';
    }
    if (spec->type && strchr("diuoxX", spec->type))
        return add_integer(j, p, spec, v);
    if (spec->type && strchr("eEfFgG", spec->type)) {
        if (v.kind == JINJA_UNDEFINED)
            return jinja_raise_undefined(j, v);
        if (!jinja_is_number(v))
            return jinja_raise(j, "TypeError", "must be real number, not %s", jinja_type_name(v));
        return jinja_add_real(j, &p->out, spec, jinja_float_of(v));
    }
    struct jinja_value before;
    size_t n;
    while (((unsigned char)p->text->bytes[place] & 0xc0) == 0x80)
        place--;
    uint32_t c = jinja_char_at(p->text, place, &n);
    if (!jinja_substring(j, p->text, 0, place, &before))
        return false;
    return jinja_raise(j, "ValueError", "unsupported format character '%.*s' (0x%x) at index %zu",
                       1, c >= 32 && c < 127 ? p->text->bytes + place : "?", c,
                       before.string->n_chars);
}

static bool convert(struct jinja *j, struct percent *p)
{
    struct jinja_spec spec = {.width = -1, .precision = -1};
    struct jinja_value v = jinja_none();
    bool keyed = p->at < p->text->n && p->text->bytes[p->at] == '(';
    if (p->at >= p->text->n)
        return incomplete(j);
    if (keyed) {
        p->at++;
        if (!keyed_value(j, p, &v))
            return false;
    }
    if (!read_spec(j, p, &spec))
        return false;
    if (spec.type == '%' && p->text->bytes[p->at - 2] == '%' && !keyed)
        return jinja_add(j, &p->out, "%", 1, spec.data);
    if (!keyed && !next_value(j, p, &v))
        return false;
    return add_one(j, p, &spec, v);
}

bool jinja_percent(struct jinja *j, const struct jinja_string *text, struct jinja_value args,
                   struct jinja_value *out)
{
    struct percent p = {.text = text, .values = &args, .n_values = 1, .mapping = jinja_none()};
    if (args.kind == JINJA_TUPLE) {
        p.values = args.sequence->items;
        p.n_values = args.sequence->count;
    } else if (args.kind == JINJA_DICT || args.kind == JINJA_LIST || args.kind == JINJA_RANGE ||
               args.kind == JINJA_UNDEFINED) {
        p.mapping = args;
    }
    if (!jinja_spend_bytes(j, text->n))
        return false;
    while (p.at < text->n) {
        const char *percent = memchr(text->bytes + p.at, '%', text->n - p.at);
        size_t end = percent ? (size_t)(percent - text->bytes) : text->n;
        if (!jinja_add_part(j, &p.out, text, p.at, end))
            return false;
        p.at = end;
        if (!percent)
            break;
        p.at++;
        if (!jinja_spend(j, 1) || !convert(j, &p))
            return false;
    }
    if (p.next < p.n_values && p.mapping.kind == JINJA_NONE)
        return jinja_raise(j, "TypeError", "not all arguments converted during string formatting");
    return jinja_build(j, &p.out, out) && (!text->safe || jinja_mark_safe(j, *out, out));
}
