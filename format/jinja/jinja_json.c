/* json.dumps, as the tojson filter of transformers calls it. */
#include "jinja_inside.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct style {
    const struct jinja_string *indent; /* NULL: all on one line */
    const struct jinja_string *item_separator, *key_separator;
    bool sort_keys, ensure_ascii;
    int level;
};

static bool add_value(struct jinja *j, struct jinja_builder *b, struct jinja_value v,
                      struct style *style);

static int escape_of(uint32_t c, bool ensure_ascii, char out[16])
{
    static const char plain[] = "\"\\\n\r\t\b\f", letters[] = "\"\\nrtbf";
    const char *place = c && c < 128 ? strchr(plain, (int)c) : NULL;
    if (place)
        return snprintf(out, 16, "\\%c", letters[place - plain]);
    if (c >= 0x20 && (!ensure_ascii || c < 0x7f))
        return 0;
    if (c < 0x10000)
        return snprintf(out, 16, "\\u%04x", c);
    c -= 0x10000;
    return snprintf(out, 16, "\\u%04x\\u%04x", 0xd800 + (c >> 10), 0xdc00 + (c & 0x3ff));
}

static bool add_text(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s,
                     bool ensure_ascii)
{
    if (!jinja_spend_bytes(j, s->n) || !jinja_add_text(j, b, "\""))
        return false;
    size_t begin = 0;
    for (size_t i = 0, n; i < s->n; i += n) {
        char escape[16];
        uint32_t c = jinja_char_at(s, i, &n);
        int length = escape_of(c, ensure_ascii, escape);
        if (length == 0)
            continue;
        if (!jinja_add_part(j, b, s, begin, i) ||
            !jinja_add(j, b, escape, (size_t)length, jinja_mark_at(s, i)))
            return false;
        begin = i + n;
    }
    return jinja_add_part(j, b, s, begin, s->n) && jinja_add_text(j, b, "\"");
}

static bool add_float(struct jinja *j, struct jinja_builder *b, double f)
{
    char text[JINJA_FLOAT_BUF];
    if (isnan(f))
        return jinja_add_text(j, b, "NaN");
    if (isinf(f))
        return jinja_add_text(j, b, f < 0 ? "-Infinity" : "Infinity");
    return jinja_add(j, b, text, jinja_float_repr(f, text), false);
}

static bool new_line(struct jinja *j, struct jinja_builder *b, const struct style *style)
{
    if (!style->indent)
        return true;
    return jinja_add_text(j, b, "\n") &&
           jinja_add_fill(j, b, style->indent, (uint64_t)style->level);
}

static bool add_array(struct jinja *j, struct jinja_builder *b, const struct jinja_sequence *s,
                      struct style *style)
{
    if (s->count == 0)
        return jinja_add_text(j, b, "[]");
    if (!jinja_add_text(j, b, "["))
        return false;
    style->level++;
    for (size_t i = 0; i < s->count; i++)
        if ((i && !jinja_add_string(j, b, style->item_separator)) || !new_line(j, b, style) ||
            !add_value(j, b, s->items[i], style))
            return false;
    style->level--;
    return new_line(j, b, style) && jinja_add_text(j, b, "]");
}

static bool add_key(struct jinja *j, struct jinja_builder *b, struct jinja_value key,
                    const struct style *style)
{
    if (key.kind == JINJA_STRING)
        return add_text(j, b, key.string, style->ensure_ascii);
    if (key.kind > JINJA_FLOAT || key.kind == JINJA_UNDEFINED)
        return jinja_raise(j, "TypeError", "keys must be str, int, float, bool or None, not %s",
                           jinja_type_name(key));
    struct style plain = {0};
    return jinja_add_text(j, b, "\"") && add_value(j, b, key, &plain) && jinja_add_text(j, b, "\"");
}

/* The entries by their keys, where that is wanted */
static bool sorted_entries(struct jinja *j, const struct jinja_dict *dict,
                           const struct jinja_entry **out)
{
    *out = dict->entries;
    struct jinja_value *keys = jinja_array(j, dict->count, sizeof *keys);
    struct jinja_value *places = keys ? jinja_array(j, dict->count, sizeof *places) : NULL;
    struct jinja_entry *entries = places ? jinja_array(j, dict->count, sizeof *entries) : NULL;
    if (!entries || !jinja_spend(j, dict->count))
        return false;
    for (size_t i = 0; i < dict->count; i++) {
        keys[i] = dict->entries[i].key;
        places[i] = jinja_int((int64_t)i);
    }
    if (!jinja_sort(j, places, keys, dict->count, false))
        return false;
    for (size_t i = 0; i < dict->count; i++)
        entries[i] = dict->entries[places[i].integer];
    *out = entries;
    return true;
}

static bool add_object(struct jinja *j, struct jinja_builder *b, const struct jinja_dict *dict,
                       struct style *style)
{
    if (dict->count == 0)
        return jinja_add_text(j, b, "{}");
    const struct jinja_entry *entries = dict->entries;
    if ((style->sort_keys && !sorted_entries(j, dict, &entries)) || !jinja_add_text(j, b, "{"))
        return false;
    style->level++;
    for (size_t i = 0; i < dict->count; i++)
        if ((i && !jinja_add_string(j, b, style->item_separator)) || !new_line(j, b, style) ||
            !add_key(j, b, entries[i].key, style) ||
            !jinja_add_string(j, b, style->key_separator) ||
            !add_value(j, b, entries[i].value, style))
            return false;
    style->level--;
    return new_line(j, b, style) && jinja_add_text(j, b, "}");
}

static bool add_value(struct jinja *j, struct jinja_builder *b, struct jinja_value v,
                      struct style *style)
{
    if (!jinja_spend(j, 1))
        return false;
    switch (v.kind) {
    case JINJA_NONE:
        return jinja_add_text(j, b, "null");
    case JINJA_BOOL:
        return jinja_add_text(j, b, v.boolean ? "true" : "false");
    case JINJA_INT:
        return jinja_add_repr(j, b, v);
    case JINJA_FLOAT:
        return add_float(j, b, v.real);
    case JINJA_STRING:
        return add_text(j, b, v.string, style->ensure_ascii);
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_DICT:
        break;
    default:
        return jinja_raise(j, "TypeError", "Object of type %s is not JSON serializable",
                           jinja_type_name(v));
    }
    if (!jinja_enter(j))
        return false;
    bool ok =
        v.kind == JINJA_DICT ? add_object(j, b, v.dict, style) : add_array(j, b, v.sequence, style);
    jinja_leave(j);
    return ok;
}

bool jinja_to_json_with(struct jinja *j, struct jinja_value v, const struct jinja_string *indent,
                        const struct jinja_string *const separators[2], bool sort_keys,
                        bool ensure_ascii, struct jinja_value *out)
{
    static const struct jinja_string comma = {.bytes = ",", .n = 1, .n_chars = 1};
    static const struct jinja_string comma_space = {.bytes = ", ", .n = 2, .n_chars = 2};
    static const struct jinja_string colon_space = {.bytes = ": ", .n = 2, .n_chars = 2};
    struct style style = {.indent = indent, .sort_keys = sort_keys, .ensure_ascii = ensure_ascii};
    style.item_separator = separators ? separators[0] : indent ? &comma : &comma_space;
    style.key_separator = separators ? separators[1] : &colon_space;
    struct jinja_builder text = {0};
    return add_value(j, &text, v, &style) && jinja_build(j, &text, out);
}

bool jinja_to_json(struct jinja *j, struct jinja_value v, int64_t indent,
                   const char *const separators[2], bool sort_keys, bool ensure_ascii,
                   struct jinja_value *out)
{
    struct jinja_builder spaces = {0};
    struct jinja_value width, ends[2];
    static const struct jinja_string space = {.bytes = " ", .n = 1, .n_chars = 1};
    if (indent >= 0 &&
        (!jinja_add_fill(j, &spaces, &space, (uint64_t)indent) || !jinja_build(j, &spaces, &width)))
        return false;
    const struct jinja_string *both[2] = {NULL, NULL};
    for (int i = 0; i < 2 && separators; i++) {
        if (!jinja_text_value(j, separators[i], &ends[i]))
            return false;
        both[i] = ends[i].string;
    }
    return jinja_to_json_with(j, v, indent >= 0 ? width.string : NULL, separators ? both : NULL,
                              sort_keys, ensure_ascii, out);
}
