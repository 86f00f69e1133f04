/* The digests of the chat templates of a compiled tokenizer, as the manifest shows them. */
#pragma once
#include "error.h"
#include <jansson.h>
#include <stdint.h>

/* data: n bytes of a compiled tokenizer. *out: an object, name to SHA-256 in hex; NULL where it has
 * no template. The caller owns it.
 * Errors  those of tokenizer_file_open */
bool chat_digests(const void *data, uint64_t n, json_t **out, struct tp_error *err);
