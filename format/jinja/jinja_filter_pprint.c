/* pprint: Python's pformat, lines of 80 columns, dicts by their keys. */
#include "jinja_filters.h"

#include <string.h>

enum { WIDTH = 80 };

struct place {
    int64_t indent, allowance; /* columns before, and for what closes after */
    int level;
};

static bool add_pretty(struct jinja *j, struct jinja_builder *b, struct jinja_value v,
                       struct place at);

/* The dicts in v by their keys. Keys without an order stay as they are. */
static bool ordered(struct jinja *j, struct jinja_value v, struct jinja_value *out)
{
    bool ok = true;
    *out = v;
    if ((v.kind != JINJA_DICT && v.kind != JINJA_LIST && v.kind != JINJA_TUPLE))
        return true;
    if (!jinja_enter(j))
        return false;
    if (v.kind == JINJA_DICT) {
        size_t count = v.dict->count;
        struct jinja_value *keys = jinja_array(j, count, sizeof *keys), item;
        struct jinja_value *places = keys ? jinja_array(j, count, sizeof *places) : NULL;
        struct jinja_dict *dict = places ? jinja_make_dict(j) : NULL;
        bool strings = true, numbers = true;
        for (size_t i = 0; dict && i < count; i++) {
            keys[i] = v.dict->entries[i].key;
            places[i] = jinja_int((int64_t)i);
            strings &= keys[i].kind == JINJA_STRING;
            numbers &= jinja_is_number(keys[i]);
        }
        ok = dict && (!(strings || numbers) || jinja_sort(j, places, keys, count, false));
        for (size_t i = 0; ok && i < count; i++) {
            const struct jinja_entry *entry = &v.dict->entries[places[i].integer];
            ok = ordered(j, entry->value, &item) && jinja_dict_put(j, dict, entry->key, item);
        }
        if (ok)
            *out = jinja_of_dict(dict);
    } else {
        struct jinja_sequence *s =
            jinja_new_sequence(j, v.kind, v.sequence->type_name, v.sequence->count, out);
        ok = s != NULL;
        for (size_t i = 0; ok && i < s->count; i++)
            ok = ordered(j, v.sequence->items[i], &s->items[i]);
    }
    jinja_leave(j);
    return ok;
}

static bool new_line(struct jinja *j, struct jinja_builder *b, int64_t indent)
{
    static const struct jinja_string space = {.bytes = " ", .n = 1, .n_chars = 1};
    return jinja_add_text(j, b, "\n") &&
           jinja_add_fill(j, b, &space, (uint64_t)(indent > 0 ? indent : 0));
}

static bool add_dict(struct jinja *j, struct jinja_builder *b, const struct jinja_dict *dict,
                     struct place at)
{
    at.indent++;
    at.allowance++;
    if (!jinja_add_text(j, b, "{"))
        return false;
    for (size_t i = 0; i < dict->count; i++) {
        struct jinja_value key;
        struct place value_at = at;
        bool last = i + 1 == dict->count;
        if (!jinja_repr(j, dict->entries[i].key, &key))
            return false;
        value_at.indent += (int64_t)key.string->n_chars + 2;
        value_at.allowance = last ? at.allowance : 1;
        if (!jinja_add_string(j, b, key.string) || !jinja_add_text(j, b, ": ") ||
            !add_pretty(j, b, dict->entries[i].value, value_at))
            return false;
        if (!last && (!jinja_add_text(j, b, ",") || !new_line(j, b, at.indent)))
            return false;
    }
    return jinja_add_text(j, b, "}");
}

static bool add_items(struct jinja *j, struct jinja_builder *b, struct jinja_value v,
                      struct place at)
{
    const struct jinja_sequence *s = v.sequence;
    bool tuple = v.kind == JINJA_TUPLE;
    const char *close = !tuple ? "]" : s->count == 1 ? ",)" : ")";
    at.indent++;
    at.allowance += (int64_t)strlen(close);
    if (!jinja_add_text(j, b, tuple ? "(" : "["))
        return false;
    for (size_t i = 0; i < s->count; i++) {
        struct place item_at = at;
        item_at.allowance = i + 1 == s->count ? at.allowance : 1;
        if ((i && (!jinja_add_text(j, b, ",") || !new_line(j, b, at.indent))) ||
            !add_pretty(j, b, s->items[i], item_at))
            return false;
    }
    return jinja_add_text(j, b, close);
}

/* ---- long strings: pieces that end at spaces ---- */

static bool fits(struct jinja *j, const struct jinja_string *s, size_t begin, size_t end,
                 int64_t width, struct jinja_value *repr, bool *yes)
{
    struct jinja_value part;
    if (!jinja_substring(j, s, begin, end, &part) || !jinja_repr(j, part, repr))
        return false;
    *yes = (int64_t)repr->string->n_chars <= width;
    return true;
}

/* A run of characters and the spaces after it */
static size_t part_end(const struct jinja_string *s, size_t i)
{
    size_t n;
    while (i < s->n && !jinja_is_space(jinja_char_at(s, i, &n)))
        i += n;
    while (i < s->n && jinja_is_space(jinja_char_at(s, i, &n)))
        i += n;
    return i;
}

static bool break_line(struct jinja *j, const struct jinja_string *line, int64_t width,
                       int64_t allowance, struct jinja_items *chunks)
{
    struct jinja_value repr, held = jinja_none();
    size_t begin = 0;
    for (size_t i = 0, end; i < line->n; i = end) {
        bool yes;
        end = part_end(line, i);
        if (end == line->n)
            width -= allowance;
        if (!fits(j, line, begin, end, width, &repr, &yes))
            return false;
        if (!yes && i > begin) {
            if (!jinja_push(j, chunks, held))
                return false;
            begin = i;
            if (!fits(j, line, begin, end, width, &repr, &yes))
                return false;
        }
        held = repr;
    }
    return held.kind == JINJA_NONE || jinja_push(j, chunks, held);
}

static bool add_string(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s,
                       struct place at)
{
    struct jinja_items lines = {0}, chunks = {0};
    bool top = at.level == 1;
    at.indent += top;
    at.allowance += top;
    int64_t width = WIDTH - at.indent;
    if (!jinja_split_lines(j, s, true, &lines))
        return false;
    for (size_t i = 0; i < lines.count; i++) {
        const struct jinja_string *line = lines.items[i].string;
        int64_t less = i + 1 == lines.count ? at.allowance : 0;
        struct jinja_value repr;
        bool yes;
        if (!fits(j, line, 0, line->n, width - less, &repr, &yes))
            return false;
        if (!(yes ? jinja_push(j, &chunks, repr) : break_line(j, line, width, less, &chunks)))
            return false;
    }
    top = top && chunks.count > 1;
    if (top && !jinja_add_text(j, b, "("))
        return false;
    for (size_t i = 0; i < chunks.count; i++)
        if ((i && !new_line(j, b, at.indent)) || !jinja_add_string(j, b, chunks.items[i].string))
            return false;
    return !top || jinja_add_text(j, b, ")");
}

static bool add_pretty(struct jinja *j, struct jinja_builder *b, struct jinja_value v,
                       struct place at)
{
    struct jinja_value repr;
    if (!jinja_repr(j, v, &repr))
        return false;
    bool breaks = v.kind == JINJA_DICT || v.kind == JINJA_LIST || v.kind == JINJA_TUPLE ||
                  v.kind == JINJA_STRING;
    if (!breaks || (int64_t)repr.string->n_chars <= WIDTH - at.indent - at.allowance)
        return jinja_add_string(j, b, repr.string);
    if (!jinja_enter(j))
        return false;
    at.level++;
    bool ok = v.kind == JINJA_STRING ? add_string(j, b, v.string, at)
              : v.kind == JINJA_DICT ? add_dict(j, b, v.dict, at)
                                     : add_items(j, b, v, at);
    jinja_leave(j);
    return ok;
}

bool jinja_filter_pprint(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                         struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_pprint", "", 0, 1};
    struct jinja_builder b = {0};
    return jinja_bind(j, &signature, args, NULL) && ordered(j, value, &value) &&
           add_pretty(j, &b, value, (struct place){0, 0, 0}) && jinja_build(j, &b, out);
}
