/* What stands on a line of standard input, read where it stands: a line may be as large as memory,
 * and nothing of it is held twice.
 *
 * Errors are TP_E_JSON and name line and byte. number: of the line, from 1. */
#pragma once
#include "error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A JSON string, unescaped in place: *text, *text_n lie in line, n bytes, and are valid UTF-8. */
bool line_json_string(char *line, size_t n, uint64_t number, char **text, size_t *text_n,
                      struct tp_error *err);

/* A JSON array of token ids, checked as a whole; *count of them. */
bool line_json_ids(const char *line, size_t n, uint64_t number, size_t *count,
                   struct tp_error *err);
/* The next id of a line that was checked; *at: the line, then what the call before left there. */
uint32_t line_json_id(const char **at);
