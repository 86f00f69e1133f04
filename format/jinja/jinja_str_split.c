/* str.split and its relatives. Parts share the bytes and origins of the whole. */
#include "jinja_methods.h"

#include <string.h>

static bool push_part(struct jinja *j, const struct jinja_string *s, size_t begin, size_t end,
                      struct jinja_items *parts)
{
    struct jinja_value part;
    return jinja_substring(j, s, begin, end, &part) && jinja_push(j, parts, part);
}

static bool is_space_at(const struct jinja_string *s, size_t i, size_t *n)
{
    return jinja_is_space(jinja_char_at(s, i, n));
}

static bool split_spaces(struct jinja *j, const struct jinja_string *s, int64_t most,
                         struct jinja_items *parts)
{
    size_t i = 0, n;
    for (;;) {
        while (i < s->n && is_space_at(s, i, &n))
            i += n;
        if (i == s->n)
            return true;
        size_t begin = i;
        if (most-- == 0)
            return push_part(j, s, begin, s->n, parts);
        while (i < s->n && !is_space_at(s, i, &n))
            i += n;
        if (!push_part(j, s, begin, i, parts))
            return false;
    }
}

static bool split_at(struct jinja *j, const struct jinja_string *s, const struct jinja_string *by,
                     int64_t most, struct jinja_items *parts)
{
    size_t begin = 0;
    while (most-- != 0) {
        size_t at;
        if (!jinja_find(j, s, by, begin, &at))
            return false;
        if (at == s->n)
            break;
        if (!push_part(j, s, begin, at, parts))
            return false;
        begin = at + by->n;
    }
    return push_part(j, s, begin, s->n, parts);
}

static void reverse(struct jinja_items *parts)
{
    for (size_t i = 0; i < parts->count / 2; i++) {
        struct jinja_value held = parts->items[i];
        parts->items[i] = parts->items[parts->count - 1 - i];
        parts->items[parts->count - 1 - i] = held;
    }
}

static bool rsplit_spaces(struct jinja *j, const struct jinja_string *s, int64_t most,
                          struct jinja_items *parts)
{
    size_t end = s->n, n;
    for (;;) {
        while (end > 0 && is_space_at(s, jinja_before(s, end), &n))
            end = jinja_before(s, end);
        if (end == 0)
            return true;
        size_t begin = end;
        if (most-- == 0)
            return push_part(j, s, 0, end, parts);
        while (begin > 0 && !is_space_at(s, jinja_before(s, begin), &n))
            begin = jinja_before(s, begin);
        if (!push_part(j, s, begin, end, parts))
            return false;
        end = begin;
    }
}

/* The last occurrence that ends at or before byte end; s->n: none */
static bool find_last(struct jinja *j, const struct jinja_string *s, const struct jinja_string *by,
                      size_t end, size_t *at)
{
    *at = s->n;
    size_t i = end;
    if (by->n <= end)
        for (i = end - by->n + 1; i-- > 0;)
            if (s->bytes[i] == by->bytes[0] && memcmp(s->bytes + i, by->bytes, by->n) == 0) {
                *at = i;
                break;
            }
    /* every step may compare all of it */
    return jinja_spend(j, (end - (*at < s->n ? *at : 0)) / JINJA_BYTES_PER_STEP * by->n);
}

static bool rsplit_at(struct jinja *j, const struct jinja_string *s, const struct jinja_string *by,
                      int64_t most, struct jinja_items *parts)
{
    size_t end = s->n;
    while (most-- != 0) {
        size_t at;
        if (!find_last(j, s, by, end, &at))
            return false;
        if (at == s->n)
            break;
        if (!push_part(j, s, at + by->n, end, parts))
            return false;
        end = at;
    }
    return push_part(j, s, 0, end, parts);
}

static bool split(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                  bool from_right, struct jinja_value *out)
{
    struct jinja_signature signature = {from_right ? "rsplit" : "split", "sep maxsplit", 0, 0};
    struct jinja_value v[2] = {jinja_none(), jinja_int(-1)};
    int64_t most;
    if (args->count + args->n_keywords > 2)
        return jinja_raise(j, "TypeError", "%s() takes at most 2 arguments (%zu given)",
                           signature.function, args->count + args->n_keywords);
    if (!jinja_bind(j, &signature, args, v) || !jinja_index(j, v[1], &most) ||
        !jinja_spend_bytes(j, self.string->n))
        return false;
    if (most < 0)
        most = -1; /* room to count down */
    struct jinja_items parts = {0};
    bool ok;
    if (v[0].kind == JINJA_NONE) {
        ok = from_right ? rsplit_spaces(j, self.string, most, &parts)
                        : split_spaces(j, self.string, most, &parts);
    } else if (v[0].kind != JINJA_STRING) {
        return jinja_raise(j, "TypeError", "must be str or None, not %s", jinja_type_name(v[0]));
    } else if (v[0].string->n == 0) {
        return jinja_raise(j, "ValueError", "empty separator");
    } else {
        ok = from_right ? rsplit_at(j, self.string, v[0].string, most, &parts)
                        : split_at(j, self.string, v[0].string, most, &parts);
    }
    if (from_right)
        reverse(&parts);
    return ok && jinja_take_items(j, &parts, JINJA_LIST, out);
}

bool jinja_str_split(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                     struct jinja_value *out)
{
    return split(j, self, args, false, out);
}

bool jinja_str_rsplit(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                      struct jinja_value *out)
{
    return split(j, self, args, true, out);
}

bool jinja_split_lines(struct jinja *j, const struct jinja_string *s, bool keep,
                       struct jinja_items *lines)
{
    if (!jinja_spend_bytes(j, s->n))
        return false;
    size_t begin = 0;
    for (size_t i = 0, n; i < s->n; i += n) {
        if (!jinja_is_line_end(jinja_char_at(s, i, &n)))
            continue;
        if (s->bytes[i] == '\r' && i + 1 < s->n && s->bytes[i + 1] == '\n')
            n = 2;
        if (!push_part(j, s, begin, keep ? i + n : i, lines))
            return false;
        begin = i + n;
    }
    return begin == s->n || push_part(j, s, begin, s->n, lines);
}

bool jinja_str_splitlines(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                          struct jinja_value *out)
{
    static const struct jinja_signature signature = {"splitlines", "keepends", 0, 0};
    struct jinja_value keep = jinja_bool(false);
    if (args->count + args->n_keywords > 1)
        return jinja_raise(j, "TypeError", "splitlines() takes at most 1 argument (%zu given)",
                           args->count + args->n_keywords);
    struct jinja_items lines = {0};
    return jinja_bind(j, &signature, args, &keep) &&
           jinja_split_lines(j, self.string, jinja_truth(keep), &lines) &&
           jinja_take_items(j, &lines, JINJA_LIST, out);
}

static bool partition(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                      bool from_right, struct jinja_value *out)
{
    const char *name = from_right ? "rpartition" : "partition";
    if (!jinja_positional(j, "str", name, 1, 1, args))
        return false;
    struct jinja_value by = args->items[0];
    if (by.kind != JINJA_STRING)
        return jinja_raise(j, "TypeError", "must be str, not %s", jinja_type_name(by));
    if (by.string->n == 0)
        return jinja_raise(j, "ValueError", "empty separator");
    const struct jinja_string *s = self.string;
    size_t at;
    if (!(from_right ? find_last(j, s, by.string, s->n, &at) : jinja_find(j, s, by.string, 0, &at)))
        return false;
    struct jinja_value part[3], empty;
    if (!jinja_text_value(j, "", &empty))
        return false;
    if (at == s->n) {
        part[0] = from_right ? empty : self;
        part[1] = empty;
        part[2] = from_right ? self : empty;
    } else if (!jinja_substring(j, s, 0, at, &part[0]) ||
               !jinja_substring(j, s, at, at + by.string->n, &part[1]) ||
               !jinja_substring(j, s, at + by.string->n, s->n, &part[2])) {
        return false;
    }
    return jinja_make_sequence(j, JINJA_TUPLE, part, 3, out);
}

bool jinja_str_partition(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                         struct jinja_value *out)
{
    return partition(j, self, args, false, out);
}

bool jinja_str_rpartition(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                          struct jinja_value *out)
{
    return partition(j, self, args, true, out);
}
