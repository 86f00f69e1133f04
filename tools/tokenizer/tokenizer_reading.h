/* What the readers of tokenizer.json's parts share: where they read, how they refuse, how a
 * Sequence becomes a list. */
#pragma once
#include "error.h"
#include "mem.h"
#include <jansson.h>

struct tokenizer_reading {
    const char *file; /* in errors */
    struct mem_arena *arena;
    struct tp_error *err;
};

/* "FILE: PART: what" as TP_E_TK_INVALID; "FILE: PART what" as TP_E_TK_UNSUPPORTED. */
bool reading_invalid(const struct tokenizer_reading *in, const char *part, const char *what);
bool reading_unsupported(const struct tokenizer_reading *in, const char *part, const char *what);

/* The "type" of a part, "BPE" ... */
bool reading_type(const struct tokenizer_reading *in, const char *part, const json_t *value,
                  const char **type);
/* A key that must be there. */
bool reading_bool(const struct tokenizer_reading *in, const char *part, const json_t *value,
                  const char *key, bool *out);
bool reading_string(const struct tokenizer_reading *in, const char *part, const json_t *value,
                    const char *key, const char **out, size_t *n);
/* A string of one character. */
bool reading_char(const struct tokenizer_reading *in, const char *part, const json_t *value,
                  const char *key, const char **out, size_t *n);
/* {"String": ...} or {"Regex": ...} at "pattern". */
bool reading_pattern(const struct tokenizer_reading *in, const char *part, const json_t *value,
                     bool *regex, const char **out, size_t *n);

/* Call read for value, or, where its type is Sequence, for each entry of the array `key`, nested
 * ones too, in order. */
typedef bool reading_step(void *self, const char *type, const json_t *value);
bool reading_each(const struct tokenizer_reading *in, const char *part, const char *key,
                  const json_t *value, reading_step *read, void *self);
