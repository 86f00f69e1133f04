/* str.find and its relatives, replace. Places are counted in characters. */
#include "jinja_methods.h"

#include <string.h>

/* The bytes [begin, end) that start and end (characters, from args 1 and 2) name; *none: start lies
 * behind the end, where nothing is found, not even the empty string. */
static bool bounds(struct jinja *j, const struct jinja_string *s, const struct jinja_args *args,
                   size_t *begin, size_t *end, bool *none)
{
    struct jinja_walk walk;
    struct jinja_value start = args->count > 1 ? args->items[1] : jinja_none();
    struct jinja_value stop = args->count > 2 ? args->items[2] : jinja_none();
    if (!jinja_slice_walk(j, start, stop, jinja_none(), s->n_chars, &walk))
        return false;
    int64_t from = jinja_is_int(start) ? jinja_int_of(start) : 0;
    int64_t to = jinja_is_int(stop) ? jinja_int_of(stop) : (int64_t)s->n_chars;
    if (from < 0)
        from += (int64_t)s->n_chars;
    if (to < 0)
        to += (int64_t)s->n_chars;
    to = to > (int64_t)s->n_chars ? (int64_t)s->n_chars : to < 0 ? 0 : to;
    *none = from > to;
    return jinja_byte_of(j, s, (size_t)walk.first, begin) &&
           jinja_byte_of(j, s, (size_t)walk.first + walk.count, end);
}

/* What and two bounds; these functions word it in their own way. */
static bool count_args(struct jinja *j, const char *name, const struct jinja_args *args)
{
    if (args->n_keywords == 0 && (args->count < 1 || args->count > 3))
        return jinja_raise(j, "TypeError", "%s() takes at %s argument%s (%zu given)", name,
                           args->count < 1 ? "least 1" : "most 3", args->count < 1 ? "" : "s",
                           args->count);
    return jinja_positional(j, "str", name, 1, 3, args);
}

static bool take_needle(struct jinja *j, const struct jinja_args *args,
                        const struct jinja_string **needle)
{
    if (args->items[0].kind != JINJA_STRING)
        return jinja_raise(j, "TypeError", "must be str, not %s", jinja_type_name(args->items[0]));
    *needle = args->items[0].string;
    return true;
}

static size_t last_in(const struct jinja_string *s, const struct jinja_string *needle, size_t begin,
                      size_t end)
{
    if (needle->n > end - begin)
        return s->n + 1;
    for (size_t i = end - needle->n + 1; i-- > begin;)
        if (memcmp(s->bytes + i, needle->bytes, needle->n) == 0)
            return i;
    return s->n + 1;
}

/* *place: the character's number; -1: not found */
static bool search(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                   const char *name, bool last, int64_t *place)
{
    const struct jinja_string *s = self.string, *needle = NULL;
    size_t begin, end;
    bool none;
    *place = -1;
    if (!count_args(j, name, args) || !bounds(j, s, args, &begin, &end, &none) ||
        !take_needle(j, args, &needle))
        return false;
    if (none)
        return true;
    struct jinja_string part = *s;
    part.n = end;
    size_t at;
    if (needle->n == 0) {
        at = last ? end : begin;
    } else if (last) {
        if (!jinja_spend(j, (end - begin) / JINJA_BYTES_PER_STEP * needle->n + 1))
            return false;
        at = last_in(s, needle, begin, end);
    } else {
        if (!jinja_find(j, &part, needle, begin, &at))
            return false;
        if (at == end)
            return true;
    }
    if (at > s->n)
        return true;
    struct jinja_value before;
    if (!jinja_substring(j, s, 0, at, &before))
        return false;
    *place = (int64_t)before.string->n_chars;
    return true;
}

#define FIND_METHOD(name, last, must)                                                              \
    bool jinja_str_##name(struct jinja *j, struct jinja_value self, const struct jinja_args *args, \
                          struct jinja_value *out)                                                 \
    {                                                                                              \
        int64_t place;                                                                             \
        if (!search(j, self, args, #name, last, &place))                                           \
            return false;                                                                          \
        if (must && place < 0)                                                                     \
            return jinja_raise(j, "ValueError", "substring not found");                            \
        *out = jinja_int(place);                                                                   \
        return true;                                                                               \
    }
FIND_METHOD(find, false, false)
FIND_METHOD(rfind, true, false)
FIND_METHOD(index, false, true)
FIND_METHOD(rindex, true, true)

bool jinja_str_count(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                     struct jinja_value *out)
{
    const struct jinja_string *s = self.string, *needle = NULL;
    size_t begin, end;
    bool none;
    if (!count_args(j, "count", args) || !bounds(j, s, args, &begin, &end, &none) ||
        !take_needle(j, args, &needle))
        return false;
    int64_t count = 0;
    struct jinja_value part;
    if (!none) {
        if (!jinja_substring(j, s, begin, end, &part))
            return false;
        if (needle->n == 0)
            count = (int64_t)part.string->n_chars + 1;
        for (size_t at = 0; needle->n; at += needle->n) {
            if (!jinja_find(j, part.string, needle, at, &at))
                return false;
            if (at == part.string->n || !jinja_spend(j, 1))
                break;
            count++;
        }
    }
    *out = jinja_int(count);
    return !j->failed;
}

/* ---- beginnings and ends ---- */

static bool has_end(const struct jinja_string *s, const struct jinja_string *piece, size_t begin,
                    size_t end, bool at_end)
{
    if (piece->n > end - begin)
        return false;
    size_t from = at_end ? end - piece->n : begin;
    return memcmp(s->bytes + from, piece->bytes, piece->n) == 0;
}

static bool with(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                 const char *name, bool at_end, struct jinja_value *out)
{
    size_t begin, end;
    bool none, yes = false;
    if (!count_args(j, name, args) || !bounds(j, self.string, args, &begin, &end, &none))
        return false;
    struct jinja_value what = args->items[0];
    if (what.kind != JINJA_STRING && what.kind != JINJA_TUPLE)
        return jinja_raise(j, "TypeError", "%s first arg must be str or a tuple of str, not %s",
                           name, jinja_type_name(what));
    const struct jinja_value *items = what.kind == JINJA_TUPLE ? what.sequence->items : &what;
    size_t count = what.kind == JINJA_TUPLE ? what.sequence->count : 1;
    for (size_t i = 0; i < count && !yes; i++) {
        if (items[i].kind != JINJA_STRING)
            return jinja_raise(j, "TypeError", "tuple for %s must only contain str, not %s", name,
                               jinja_type_name(items[i]));
        if (!jinja_spend_bytes(j, items[i].string->n))
            return false;
        yes = !none && has_end(self.string, items[i].string, begin, end, at_end);
    }
    *out = jinja_bool(yes);
    return true;
}

bool jinja_str_startswith(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                          struct jinja_value *out)
{
    return with(j, self, args, "startswith", false, out);
}

bool jinja_str_endswith(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                        struct jinja_value *out)
{
    return with(j, self, args, "endswith", true, out);
}

static bool remove_end(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                       const char *name, bool at_end, struct jinja_value *out)
{
    const struct jinja_string *s = self.string;
    if (!jinja_positional(j, "str", name, 1, 1, args))
        return false;
    if (args->items[0].kind != JINJA_STRING)
        return jinja_raise(j, "TypeError", "%s() argument must be str, not %s", name,
                           jinja_type_name(args->items[0]));
    const struct jinja_string *piece = args->items[0].string;
    if (!jinja_spend_bytes(j, piece->n))
        return false;
    *out = self;
    if (!has_end(s, piece, 0, s->n, at_end))
        return true;
    return at_end ? jinja_substring(j, s, 0, s->n - piece->n, out)
                  : jinja_substring(j, s, piece->n, s->n, out);
}

bool jinja_str_removeprefix(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                            struct jinja_value *out)
{
    return remove_end(j, self, args, "removeprefix", false, out);
}

bool jinja_str_removesuffix(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                            struct jinja_value *out)
{
    return remove_end(j, self, args, "removesuffix", true, out);
}

/* ---- replace ---- */

/* Between all characters and at both ends */
static bool replace_empty(struct jinja *j, const struct jinja_string *s,
                          const struct jinja_string *with, int64_t count, struct jinja_value *out)
{
    struct jinja_builder text = {0};
    size_t i = 0;
    for (; count-- != 0;) {
        size_t n = 0;
        if (!jinja_add_string(j, &text, with) || !jinja_spend(j, 1))
            return false;
        if (i == s->n)
            return jinja_build(j, &text, out);
        jinja_char_at(s, i, &n);
        if (!jinja_add_part(j, &text, s, i, i + n))
            return false;
        i += n;
    }
    return jinja_add_part(j, &text, s, i, s->n) && jinja_build(j, &text, out);
}

bool jinja_replace(struct jinja *j, const struct jinja_string *s, const struct jinja_string *old,
                   const struct jinja_string *with, int64_t count, struct jinja_value *out)
{
    if (count < 0)
        count = -1; /* room to count down */
    if (old->n == 0)
        return replace_empty(j, s, with, count, out);
    struct jinja_builder text = {0};
    size_t begin = 0;
    while (count-- != 0) {
        size_t at;
        if (!jinja_find(j, s, old, begin, &at))
            return false;
        if (at == s->n)
            break;
        if (!jinja_add_part(j, &text, s, begin, at) || !jinja_add_string(j, &text, with) ||
            !jinja_spend(j, 1))
            return false;
        begin = at + old->n;
    }
    return jinja_add_part(j, &text, s, begin, s->n) && jinja_build(j, &text, out);
}

bool jinja_str_replace(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                       struct jinja_value *out)
{
    int64_t count = -1;
    if (!jinja_positional(j, "str", "replace", 2, 3, args))
        return false;
    for (size_t i = 0; i < 2; i++)
        if (args->items[i].kind != JINJA_STRING)
            return jinja_raise(j, "TypeError", "replace() argument %zu must be str, not %s", i + 1,
                               jinja_type_name(args->items[i]));
    if (args->count > 2 && !jinja_index(j, args->items[2], &count))
        return false;
    return jinja_replace(j, self.string, args->items[0].string, args->items[1].string, count, out);
}
