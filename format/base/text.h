/* A text that grows. */
#pragma once
#include "error.h"
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* The owner frees data with mem_free. {0} is empty. */
struct tp_text {
    char *data;
    size_t n, cap;
};
bool tp_text_add(struct tp_text *text, const char *bytes, size_t n, struct tp_error *err);
/* Does the name end so? */
static inline bool tp_ends_in(const char *name, const char *end)
{
    size_t n = strlen(name), k = strlen(end);
    return n >= k && memcmp(name + n - k, end, k) == 0;
}
/* The inside of a JSON string: n bytes of valid UTF-8, escaped where JSON wants it. */
bool tp_text_add_escaped(struct tp_text *text, const char *bytes, size_t n, struct tp_error *err);
