/* str() and repr(), character by character as Python's. */
#include "jinja_inside.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool add_int(struct jinja *j, struct jinja_builder *b, int64_t i)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRId64, i);
    return jinja_add(j, b, text, (size_t)n, false);
}

/* The escape of a character that repr does not show as it is; 0 bytes: shown */
static int escape_of(uint32_t c, int quote, char out[JINJA_SPELLED_MAX])
{
    static const char plain[] = "\n\r\t", letters[] = "nrt";
    const char *place = c && c < 128 ? strchr(plain, (int)c) : NULL;
    if (place)
        return snprintf(out, JINJA_SPELLED_MAX, "\\%c", letters[place - plain]);
    if (c == '\\' || c == (uint32_t)quote)
        return snprintf(out, JINJA_SPELLED_MAX, "\\%c", (char)c);
    if (jinja_is_printable(c))
        return 0;
    return snprintf(out, JINJA_SPELLED_MAX,
                    c < 0x100     ? "\\x%02x"
                    : c < 0x10000 ? "\\u%04x"
                                  : "\\U%08x",
                    c);
}

static bool add_string_repr(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s)
{
    bool double_quote = s->n && memchr(s->bytes, '\'', s->n) && !memchr(s->bytes, '"', s->n);
    char quote = double_quote ? '"' : '\'';
    return (!s->safe || jinja_add_text(j, b, "Markup(")) && jinja_spend_bytes(j, s->n) &&
           jinja_add(j, b, &quote, 1, false) && jinja_add_spelled(j, b, s, escape_of, quote) &&
           jinja_add(j, b, &quote, 1, false) && (!s->safe || jinja_add_text(j, b, ")"));
}

static bool add_items(struct jinja *j, struct jinja_builder *b, const struct jinja_sequence *s)
{
    for (size_t i = 0; i < s->count; i++)
        if ((i && !jinja_add_text(j, b, ", ")) || !jinja_add_repr(j, b, s->items[i]))
            return false;
    return true;
}

static bool add_dict(struct jinja *j, struct jinja_builder *b, const struct jinja_dict *dict)
{
    if (!jinja_add_text(j, b, "{"))
        return false;
    for (size_t i = 0; i < dict->count; i++)
        if ((i && !jinja_add_text(j, b, ", ")) || !jinja_add_repr(j, b, dict->entries[i].key) ||
            !jinja_add_text(j, b, ": ") || !jinja_add_repr(j, b, dict->entries[i].value))
            return false;
    return jinja_add_text(j, b, "}");
}

static bool add_range(struct jinja *j, struct jinja_builder *b, const struct jinja_sequence *s)
{
    int64_t start = s->start, stop = s->stop, step = s->step;
    return jinja_add_text(j, b, "range(") && add_int(j, b, start) && jinja_add_text(j, b, ", ") &&
           add_int(j, b, stop) &&
           (step == 1 || (jinja_add_text(j, b, ", ") && add_int(j, b, step))) &&
           jinja_add_text(j, b, ")");
}

static bool add_object(struct jinja *j, struct jinja_builder *b, struct jinja_object *object)
{
    struct jinja_value text;
    if (object->type->print)
        return object->type->print(j, object, &text) && jinja_add_string(j, b, text.string);
    return jinja_add_text(j, b, "<") && jinja_add_text(j, b, object->type->name) &&
           jinja_add_text(j, b, ">");
}

static bool add_container(struct jinja *j, struct jinja_builder *b, struct jinja_value v)
{
    switch (v.kind) {
    case JINJA_LIST:
        return jinja_add_text(j, b, "[") && add_items(j, b, v.sequence) &&
               jinja_add_text(j, b, "]");
    case JINJA_TUPLE:
        return jinja_add_text(j, b, "(") && add_items(j, b, v.sequence) &&
               jinja_add_text(j, b, v.sequence->count == 1 ? ",)" : ")");
    case JINJA_VIEW:
        return jinja_add_text(j, b, v.sequence->type_name) && jinja_add_text(j, b, "([") &&
               add_items(j, b, v.sequence) && jinja_add_text(j, b, "])");
    case JINJA_DICT:
        return add_dict(j, b, v.dict);
    case JINJA_RANGE:
        return add_range(j, b, v.sequence);
    case JINJA_OBJECT:
        return add_object(j, b, v.object);
    default: /* a generator: Python would show an address */
        return jinja_add_text(j, b, "<") && jinja_add_text(j, b, v.sequence->type_name) &&
               jinja_add_text(j, b, " object>");
    }
}

bool jinja_add_repr(struct jinja *j, struct jinja_builder *b, struct jinja_value v)
{
    char text[JINJA_FLOAT_BUF];
    switch (v.kind) {
    case JINJA_UNDEFINED:
        return jinja_add_text(j, b, "Undefined");
    case JINJA_NONE:
        return jinja_add_text(j, b, "None");
    case JINJA_BOOL:
        return jinja_add_text(j, b, v.boolean ? "True" : "False");
    case JINJA_INT:
        return add_int(j, b, v.integer);
    case JINJA_FLOAT:
        return jinja_add(j, b, text, jinja_float_repr(v.real, text), false);
    case JINJA_STRING:
        return add_string_repr(j, b, v.string);
    default:
        break;
    }
    if (!jinja_spend(j, 1) || !jinja_enter(j))
        return false;
    bool ok = add_container(j, b, v);
    jinja_leave(j);
    return ok;
}

bool jinja_add_str(struct jinja *j, struct jinja_builder *b, struct jinja_value v)
{
    if (v.kind == JINJA_STRING)
        return jinja_add_string(j, b, v.string);
    if (v.kind == JINJA_UNDEFINED)
        return true;
    return jinja_add_repr(j, b, v);
}

bool jinja_str(struct jinja *j, struct jinja_value v, struct jinja_value *out)
{
    if (v.kind == JINJA_STRING) {
        *out = v;
        return true;
    }
    struct jinja_builder text = {0};
    return jinja_add_str(j, &text, v) && jinja_build(j, &text, out);
}

bool jinja_repr(struct jinja *j, struct jinja_value v, struct jinja_value *out)
{
    struct jinja_builder text = {0};
    return jinja_add_repr(j, &text, v) && jinja_build(j, &text, out);
}
