#include "tokenizer_reading.h"

#include "json.h"
#include "utf8.h"
#include <string.h>

bool reading_invalid(const struct tokenizer_reading *in, const char *part, const char *what)
{
    return tp_fail(in->err, TP_E_TK_INVALID, "%s: %s: %s", in->file, part, what);
}

bool reading_unsupported(const struct tokenizer_reading *in, const char *part, const char *what)
{
    char name[TP_NAME_BUF];
    return tp_fail(in->err, TP_E_TK_UNSUPPORTED, "%s: %s %s", in->file, part,
                   tp_name_cut(name, what, strlen(what)));
}

bool reading_type(const struct tokenizer_reading *in, const char *part, const json_t *value,
                  const char **type)
{
    *type = json_string_value(json_object_get(value, "type"));
    return *type || reading_invalid(in, part, "an object with a type expected");
}

bool reading_bool(const struct tokenizer_reading *in, const char *part, const json_t *value,
                  const char *key, bool *out)
{
    const json_t *v = json_object_get(value, key);
    if (!json_is_boolean(v))
        return tp_fail(in->err, TP_E_TK_INVALID, "%s: %s: %s: true or false expected, %s found",
                       in->file, part, key, json_type_name(v));
    *out = json_is_true(v);
    return true;
}

bool reading_string(const struct tokenizer_reading *in, const char *part, const json_t *value,
                    const char *key, const char **out, size_t *n)
{
    const json_t *v = json_object_get(value, key);
    if (!json_is_string(v))
        return tp_fail(in->err, TP_E_TK_INVALID, "%s: %s: %s: a string expected, %s found",
                       in->file, part, key, json_type_name(v));
    *out = json_string_value(v);
    *n = json_string_length(v);
    return true;
}

bool reading_char(const struct tokenizer_reading *in, const char *part, const json_t *value,
                  const char *key, const char **out, size_t *n)
{
    if (!reading_string(in, part, value, key, out, n))
        return false;
    return (*n && utf8_length((const unsigned char *)*out, *n) == *n) ||
           tp_fail(in->err, TP_E_TK_INVALID, "%s: %s: %s: one character expected", in->file, part,
                   key);
}

bool reading_pattern(const struct tokenizer_reading *in, const char *part, const json_t *value,
                     bool *regex, const char **out, size_t *n)
{
    const json_t *pattern = json_object_get(value, "pattern");
    *regex = json_object_get(pattern, "Regex") != NULL;
    const json_t *text = json_object_get(pattern, *regex ? "Regex" : "String");
    if (!json_is_string(text) || json_object_size(pattern) != 1)
        return reading_invalid(in, part, "pattern: Regex or String expected");
    *out = json_string_value(text);
    *n = json_string_length(text);
    return true;
}

bool reading_each(const struct tokenizer_reading *in, const char *part, const char *key,
                  const json_t *value, reading_step *read, void *self)
{
    const char *type;
    if (!reading_type(in, part, value, &type))
        return false;
    if (strcmp(type, "Sequence") != 0)
        return read(self, type, value);
    const json_t *list = json_object_get(value, key);
    if (!json_is_array(list))
        return tp_fail(in->err, TP_E_TK_INVALID, "%s: %s Sequence: %s: an array expected", in->file,
                       part, key);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!reading_each(in, part, key, json_array_get(list, i), read, self))
            return false;
    return true;
}
