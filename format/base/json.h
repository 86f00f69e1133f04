/* JSON documents through jansson: duplicate keys rejected, depth bounded, numbers kept exact.
 * Getters name file and field in their errors ("config.json: num_hidden_layers: ..."). */
#pragma once
#include "error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH_MAX 64
#define JSON_MEMORY_MAX (4ull << 30) /* of the values of a document: TP_E_LIMIT */

/* Parse data[0..n). file is used in errors only. NULL on error (code, for malformed text, and for a
 * file of another kind: file_kind.h). The caller owns the result (json_decref). */
json_t *json_parse(const char *file, const char *data, size_t n, enum tp_code code,
                   struct tp_error *err);
/* json_parse, for what Python wrote: integers may have any size (model_max_length is 10^30 in
 * many). What 64 bits do not hold becomes a fraction, and of beyond 300 digits it is the size
 * alone. */
json_t *json_parse_wide(const char *file, const char *data, size_t n, enum tp_code code,
                        struct tp_error *err);
/* One or the other, of one line of a file, which `line` names with its number. */
json_t *json_parse_line(const char *line, const char *data, size_t n, bool wide, enum tp_code code,
                        struct tp_error *err);
/* io_read_file + json_parse_wide; the top level must be an object. */
json_t *json_read_wide(const char *path, uint64_t limit, enum tp_code code, struct tp_error *err);

/* Typed fields of an object. A missing or null field, or another type, is an error of the given
 * code that names file and field; *_or variants give the default for a missing or null field. */
struct json_in {
    const json_t *object;
    const char *file;
    enum tp_code code;
};
bool json_get_u64(const struct json_in *in, const char *key, uint64_t min, uint64_t max,
                  uint64_t *out, struct tp_error *err);
bool json_get_u64_or(const struct json_in *in, const char *key, uint64_t min, uint64_t max,
                     uint64_t fallback, uint64_t *out, struct tp_error *err);
bool json_get_double(const struct json_in *in, const char *key, double *out, struct tp_error *err);
bool json_get_double_or(const struct json_in *in, const char *key, double fallback, double *out,
                        struct tp_error *err);
bool json_get_bool_or(const struct json_in *in, const char *key, bool fallback, bool *out,
                      struct tp_error *err);
/* Borrowed from the document. A string has no NUL in it, a text may. */
bool json_get_text(const struct json_in *in, const char *key, const char **out, size_t *n,
                   struct tp_error *err);
bool json_get_string(const struct json_in *in, const char *key, const char **out,
                     struct tp_error *err);
bool json_get_array(const struct json_in *in, const char *key, const json_t **out,
                    struct tp_error *err);
bool json_get_object(const struct json_in *in, const char *key, const json_t **out,
                     struct tp_error *err);
/* NULL where the field is missing or null */
const json_t *json_find(const json_t *object, const char *key);
const char *json_type_name(const json_t *value);

/* Text of a document, indented by 1, keys in insertion order, doubles exact (%.17g). The caller
 * frees with mem_free; NULL on error. */
char *json_text(const json_t *value, size_t *n, struct tp_error *err);
/* The same on standard output. Takes the reference; NULL, what a failed json_pack gives, is
 * TP_E_MEMORY. */
bool json_print(json_t *value, struct tp_error *err);
