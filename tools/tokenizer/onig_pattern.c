#include "onig_pattern.h"

#include "mem.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { CLASSES_MAX = 16 }; /* nested classes */

struct translation {
    const char *where, *s;
    size_t n, at;
    int depth; /* of classes */
    struct tp_text *out;
    struct tp_error *err;
};

bool onig_literal(const char *bytes, size_t n, struct tp_text *out, struct tp_error *err)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c < 0x80 && !isalnum(c) ? !onig_set_range(c, c, out, err)
                                    : !tp_text_add(out, bytes + i, 1, err))
            return false;
    }
    return true;
}

static bool refuse(const struct translation *t, size_t n)
{
    char name[TP_NAME_BUF];
    size_t left = t->n - t->at;
    bool cut = left == 1 && t->s[t->at] == '\\';
    return tp_fail(t->err, cut ? TP_E_TK_INVALID : TP_E_TK_UNSUPPORTED,
                   "%s: pattern construct %s at offset %zu", t->where,
                   tp_name_cut(name, t->s + t->at, n < left ? n : left), t->at);
}

static bool add(const struct translation *t, struct tp_text *out, const char *text)
{
    return tp_text_add(out, text, strlen(text), t->err);
}

static bool add_text(const struct translation *t, struct tp_text *out, const struct tp_text *text)
{
    return tp_text_add(out, text->data, text->n, t->err);
}

static bool copy(struct translation *t, struct tp_text *out, size_t n)
{
    bool ok = tp_text_add(out, t->s + t->at, n, t->err);
    t->at += n;
    return ok;
}

static bool replace(struct translation *t, size_t n, const char *with)
{
    t->at += n;
    return add(t, t->out, with);
}

static bool starts(const struct translation *t, const char *prefix)
{
    size_t n = strlen(prefix);
    return t->n - t->at >= n && memcmp(t->s + t->at, prefix, n) == 0;
}

/* ---- a set of characters, anywhere ---- */

/* One operand of a class: characters that are items of a PCRE2 class, and those that are not:
 * alternatives, each of one character. */
struct operand {
    struct tp_text items, others;
    unsigned count;  /* of others */
    bool complement; /* the last of others is [^...] */
};

static void operand_free(struct operand *o)
{
    mem_free(o->items.data);
    mem_free(o->others.data);
}

static bool add_other(const struct translation *t, struct operand *o, const char *before,
                      const struct tp_text *text, const char *after)
{
    o->complement = strcmp(before, "[^") == 0;
    return (!o->count++ || add(t, &o->others, "|")) && add(t, &o->others, before) &&
           add_text(t, &o->others, text) && add(t, &o->others, after);
}

/* A known set, or its complement, into the operand. */
static bool add_set(const struct translation *t, struct operand *o, int set, bool negated)
{
    struct tp_text items = {0}, exceptions = {0}, all = {0};
    bool any = false;
    bool ok =
        onig_set_items(set, &items, t->err) && onig_set_exceptions(set, &exceptions, &any, t->err);
    if (ok && !negated && !any)
        ok = add_text(t, &o->items, &items);
    else if (ok && set == onig_set_space())
        ok = onig_set_not_space(&o->items, t->err);
    else if (ok && !any)
        ok = add_other(t, o, "[^", &items, "]");
    else if (ok)
        ok = add(t, &all, negated ? "(?:[" : "(?:(?![") && add_text(t, &all, &exceptions) &&
             add(t, &all, negated ? "]|[^" : "])[") && add_text(t, &all, &items) &&
             add_other(t, o, "", &all, "])");
    mem_free(items.data);
    mem_free(exceptions.data);
    mem_free(all.data);
    return ok;
}

/* The operand as an expression for one character. */
static bool add_operand(const struct translation *t, const struct operand *o, bool negated,
                        struct tp_text *out)
{
    if (!o->others.n)
        return add(t, out, negated ? "[^" : "[") && add_text(t, out, &o->items) && add(t, out, "]");
    if (o->count == 1 && o->complement && !o->items.n) {
        size_t skip = negated ? 2 : 0; /* not what it is not: [items] */
        return (!negated || add(t, out, "[")) &&
               tp_text_add(out, o->others.data + skip, o->others.n - skip, t->err);
    }
    bool ok = add(t, out, negated ? "(?:(?!" : "(?:");
    if (o->items.n)
        ok = ok && add(t, out, "[") && add_text(t, out, &o->items) && add(t, out, "]|");
    return ok && add_text(t, out, &o->others) && add(t, out, negated ? ")(?s:.))" : ")");
}

static bool emit_set(struct translation *t, int set, bool negated, size_t n)
{
    struct operand o = {0};
    bool ok = add_set(t, &o, set, negated) && add_operand(t, &o, false, t->out);
    operand_free(&o);
    t->at += n;
    return ok;
}

/* Is there a set by name at t->at: \s \w \d \h \p{NAME} and their complements, [:NAME:] in a class?
 * *n: bytes it takes, 0: there is none. */
static bool find_set(const struct translation *t, bool in_class, int *set, bool *negated, size_t *n)
{
    const char *s = t->s + t->at, *end = t->s + t->n;
    const char *name = s, *close = s;
    *n = 0;
    *negated = false;
    if (in_class && s + 1 < end && s[0] == '[' && s[1] == ':') {
        name = s + 2;
        close = memmem(name, (size_t)(end - name), ":]", 2);
        *n = close ? (size_t)(close + 2 - s) : 0;
    } else if (s + 1 < end && s[0] == '\\' && strchr("sSwWdDhH", s[1])) {
        *negated = isupper((unsigned char)s[1]) != 0;
        int c = tolower((unsigned char)s[1]);
        *set = c == 's'   ? onig_set_space()
               : c == 'w' ? onig_set_word(in_class)
               : c == 'd' ? onig_set_find("Nd", 2, false)
                          : onig_set_find("XDigit", 6, false);
        *n = 2;
        return true;
    } else if (s + 2 < end && s[0] == '\\' && (s[1] | 0x20) == 'p' && s[2] == '{') {
        *negated = s[1] == 'P';
        name = s + 3;
        close = memchr(name, '}', (size_t)(end - name));
        *n = close ? (size_t)(close + 1 - s) : 0;
    }
    if (!*n)
        return true;
    if (*name == '^') {
        *negated = !*negated;
        name++;
    }
    *set = onig_set_find(name, (size_t)(close - name), s[0] == '[');
    return *set >= 0 || refuse(t, *n);
}

/* ---- escapes of one character ---- */

/* \xHH below 80, \x{H...}, \uHHHH */
static bool code_point(struct translation *t, struct tp_text *out)
{
    size_t i = t->at + 2, digits = 0;
    bool braced = t->s[t->at + 1] == 'x' && i < t->n && t->s[i] == '{';
    size_t max = braced ? 6 : t->s[t->at + 1] == 'u' ? 4 : 2;
    uint32_t value = 0;
    for (i += braced; i < t->n && digits < max && isxdigit((unsigned char)t->s[i]); i++, digits++) {
        int c = tolower((unsigned char)t->s[i]);
        value = value << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    if (digits == 0 || (max == 4 && digits != 4) || (max == 2 && value >= 0x80) ||
        (braced && (i == t->n || t->s[i++] != '}')))
        return refuse(t, 10);
    t->at = i;
    return onig_set_range(value, value, out, t->err);
}

/* An escape that stands for one character, in a class or outside. */
static bool character(struct translation *t, struct tp_text *out)
{
    unsigned char c = t->at + 1 < t->n ? (unsigned char)t->s[t->at + 1] : 'X';
    switch (c) {
    case 'x':
    case 'u':
        return code_point(t, out);
    case 'v':
        t->at += 2;
        return add(t, out, "\\x{b}");
    case 'r':
    case 'n':
    case 't':
    case 'f':
    case 'a':
    case 'e':
        return copy(t, out, 2);
    default:
        if (isalnum(c))
            return refuse(t, 2);
        t->at += c >= 0x80; /* it stands for itself; PCRE2 knows no such escape */
        return copy(t, out, c >= 0x80 ? 1 : 2);
    }
}

/* ---- classes ---- */

static bool translate_class(struct translation *t, struct tp_text *out, struct operand *plain,
                            bool *is_plain);

/* A set beside a hyphen would join a range that the pattern does not mean; the reference refuses
 * most of these, too. */
static bool beside_hyphen(const struct translation *t, size_t n)
{
    const char *s = t->s + t->at;
    return (s[-1] == '-' && !strchr("[^\\", s[-2])) ||
           (t->n - t->at > n + 1 && s[n] == '-' && s[n + 1] != ']');
}

static bool nested_class(struct translation *t, struct operand *o)
{
    struct operand plain = {0};
    struct tp_text whole = {0};
    bool is_plain = false;
    bool ok = translate_class(t, &whole, &plain, &is_plain);
    if (ok && is_plain)
        ok = add_text(t, &o->items, &plain.items) &&
             (!plain.others.n || add_other(t, o, "", &plain.others, ""));
    else
        ok = ok && add_other(t, o, "", &whole, "");
    operand_free(&plain);
    mem_free(whole.data);
    return ok;
}

static bool class_item(struct translation *t, struct operand *o)
{
    int set = -1;
    bool negated;
    size_t n;
    if (!find_set(t, true, &set, &negated, &n))
        return false;
    if (n) {
        if (beside_hyphen(t, n))
            return refuse(t, n + 1);
        t->at += n;
        return add_set(t, o, set, negated);
    }
    if (starts(t, "["))
        return beside_hyphen(t, 0) && t->s[t->at - 1] == '-' ? refuse(t, 8) : nested_class(t, o);
    if (starts(t, "\\b")) {
        t->at += 2;
        return add(t, &o->items, "\\x{8}");
    }
    return starts(t, "\\") ? character(t, &o->items) : copy(t, &o->items, 1);
}

/* Close an operand before && or ]: all but the last become conditions. */
static bool end_operand(const struct translation *t, struct operand *o, bool last,
                        struct tp_text *all)
{
    if (!o->items.n && !o->others.n)
        return refuse(t, 4);
    bool ok =
        (last || add(t, all, "(?=")) && add_operand(t, o, false, all) && (last || add(t, all, ")"));
    operand_free(o);
    *o = (struct operand){0};
    return ok;
}

static bool class_operands(struct translation *t, struct operand *o, struct tp_text *all,
                           bool *intersection)
{
    *intersection = false;
    while (!starts(t, "]")) {
        if (t->at >= t->n)
            return tp_fail(t->err, TP_E_TK_INVALID, "%s: missing terminating ]", t->where);
        if (starts(t, "&&")) {
            if (!end_operand(t, o, false, all))
                return false;
            *intersection = true;
            t->at += 2;
        } else if (!class_item(t, o)) {
            return false;
        }
    }
    return !*intersection || end_operand(t, o, true, all);
}

/* The class at t->at as an expression for one character. *is_plain: it is not negated and without
 * &&; then plain holds it and out is as it was. */
static bool translate_class(struct translation *t, struct tp_text *out, struct operand *plain,
                            bool *is_plain)
{
    struct operand o = {0};
    struct tp_text all = {0};
    bool negated = starts(t, "[^"), intersection, ok;
    t->at += negated ? 2 : 1;
    if (t->depth == CLASSES_MAX || starts(t, "]"))
        return refuse(t, 2);
    t->depth++;
    ok = class_operands(t, &o, &all, &intersection);
    t->depth--;
    t->at++;
    *is_plain = ok && !negated && !intersection;
    if (*is_plain) {
        *plain = o;
        return true;
    }
    if (ok && intersection)
        ok = add(t, out, negated ? "(?:(?!" : "(?:") && add_text(t, out, &all) &&
             add(t, out, negated ? ")(?s:.))" : ")");
    else if (ok)
        ok = add_operand(t, &o, true, out);
    operand_free(&o);
    mem_free(all.data);
    return ok;
}

static bool class(struct translation *t)
{
    struct operand plain = {0};
    bool is_plain = false;
    bool ok = translate_class(t, t->out, &plain, &is_plain) &&
              (!is_plain || add_operand(t, &plain, false, t->out));
    operand_free(&plain);
    return ok;
}

/* ---- outside of classes ---- */

/* A word on one side alone: \b; on both or none: \B. */
static bool word_boundary(struct translation *t, bool negated)
{
    struct tp_text word = {0};
    struct tp_text *out = t->out;
    t->at += 2;
    bool ok = onig_set_items(onig_set_word(false), &word, t->err) && add(t, out, "(?:(?<=[") &&
              add_text(t, out, &word) && add(t, out, negated ? "])(?=[" : "])(?![") &&
              add_text(t, out, &word) && add(t, out, "])|(?<![") && add_text(t, out, &word) &&
              add(t, out, negated ? "])(?![" : "])(?=[") && add_text(t, out, &word) &&
              add(t, out, "]))");
    mem_free(word.data);
    return ok;
}

static bool escape(struct translation *t)
{
    int set = -1;
    bool negated;
    size_t n;
    if (!find_set(t, false, &set, &negated, &n))
        return false;
    if (n)
        return emit_set(t, set, negated, n);
    switch (t->at + 1 < t->n ? t->s[t->at + 1] : 0) {
    case 'b':
    case 'B':
        return word_boundary(t, t->s[t->at + 1] == 'B');
    case 'R':
        return replace(t, 2, "(?>\\r\\n|[\\x{a}-\\x{d}\\x{85}\\x{2028}\\x{2029}])");
    case 'N':
        return replace(t, 2, "[^\\n]");
    case 'O':
        return replace(t, 2, "(?s:.)");
    case 'A':
    case 'z':
    case 'Z':
        return copy(t, t->out, 2);
    default:
        return character(t, t->out);
    }
}

static bool group(struct translation *t)
{
    static const char *const known[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (starts(t, known[i]))
            return copy(t, t->out, strlen(known[i]));
    if (starts(t, "(?m:"))
        return replace(t, 4, "(?s:");
    /* elsewhere it reaches differently far in the two dialects */
    if (starts(t, "(?i)") && t->at == 0)
        return copy(t, t->out, 4);
    return starts(t, "(?") || starts(t, "(*") ? refuse(t, 8) : replace(t, 1, "(?:");
}

/* {n}, {n,}, {n,m}, {,m}; {n}? and {n,m}+ mean other things there */
static bool interval(struct translation *t)
{
    size_t i = t->at + 1;
    while (i < t->n && isdigit((unsigned char)t->s[i]))
        i++;
    bool from = i > t->at + 1, comma = i < t->n && t->s[i] == ',';
    size_t to_at = i + comma;
    for (i = to_at; comma && i < t->n && isdigit((unsigned char)t->s[i]); i++)
        ;
    char after = i + 1 < t->n ? t->s[i + 1] : 0;
    if ((!from && (!comma || i == to_at)) || i >= t->n || t->s[i] != '}' || after == '+' ||
        (after == '?' && !comma))
        return refuse(t, i + 2 - t->at);
    if (from)
        return copy(t, t->out, i + 1 - t->at);
    t->at++;
    return add(t, t->out, "{0") && copy(t, t->out, i + 1 - t->at);
}

static bool translate_next(struct translation *t)
{
    switch (t->s[t->at]) {
    case '\\':
        return escape(t);
    case '[':
        return class(t);
    case '(':
        return group(t);
    case '{':
        return interval(t);
    case '^':
        return replace(t, 1, "(?m:^)");
    case '$':
        return replace(t, 1, "(?m:$)");
    default:
        return copy(t, t->out, 1);
    }
}

bool onig_translate(const char *where, const char *pattern, size_t n, struct tp_text *out,
                    struct tp_error *err)
{
    struct translation t = {.where = where, .s = pattern, .n = n, .out = out, .err = err};
    while (t.at < t.n)
        if (!translate_next(&t))
            return false;
    return true;
}
