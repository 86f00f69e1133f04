/* json.dumps, as the tojson filter of transformers calls it. */
#include "jinja_inside.h"

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

static int escape_of(uint32_t c, int ensure_ascii, char out[JINJA_SPELLED_MAX])
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
    return jinja_spend_bytes(j, s->n) && jinja_add_text(j, b, "\"") &&
           jinja_add_spelled(j, b, s, escape_of, ensure_ascii) && jinja_add_text(j, b, "\"");
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

static bool add_object(struct jinja *j, struct jinja_builder *b, const struct jinja_dict *dict,
                       struct style *style)
{
    if (dict->count == 0)
        return jinja_add_text(j, b, "{}");
    struct jinja_value *keys = NULL, *values = NULL; /* in order, where that is wanted */
    if (!jinja_add_text(j, b, "{") ||
        (style->sort_keys &&
         (!jinja_spend(j, dict->count) || !(keys = jinja_array(j, dict->count, sizeof *keys)) ||
          !(values = jinja_array(j, dict->count, sizeof *values)))))
        return false;
    for (size_t i = 0; keys && i < dict->count; i++) {
        keys[i] = dict->entries[i].key;
        values[i] = dict->entries[i].value;
    }
    if (keys && !jinja_sort(j, values, keys, dict->count, false))
        return false;
    style->level++;
    for (size_t i = 0; i < dict->count; i++)
        if ((i && !jinja_add_string(j, b, style->item_separator)) || !new_line(j, b, style) ||
            !add_key(j, b, keys ? keys[i] : dict->entries[i].key, style) ||
            !jinja_add_string(j, b, style->key_separator) ||
            !add_value(j, b, keys ? values[i] : dict->entries[i].value, style))
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

bool jinja_to_json(struct jinja *j, struct jinja_value v, const struct jinja_string *indent,
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
