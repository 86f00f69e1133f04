/* What the files of the forger share. */
#pragma once
#include "forge_bundle.h"
#include <string.h>

/* A text in the manifest that stands for forged.raw: what no JSON value can be. */
#define FORGE_RAW "@raw@"
static inline bool forge_is_raw(const json_t *value)
{
    return json_is_string(value) && strcmp(json_string_value(value), FORGE_RAW) == 0;
}
/* Add to what was changed, for people. */
void forge_say(struct forged *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A number that a reader may trip over. */
uint64_t forge_number(struct forged *f, uint64_t old);

/* The changes: of the manifest's JSON, and of bytes. */
void forge_manifest(struct forged *f); /* anything below its top */
void forge_model(struct forged *f);
void forge_numbers(struct forged *f); /* of the model, such that no tensor changes its shape */
void forge_lists(struct forged *f);   /* files, source, recipe */
void forge_structure(struct forged *f);
void forge_header(struct forged *f);
void forge_table(struct forged *f);
void forge_data(struct forged *f);
void forge_size(struct forged *f);
void forge_frame(struct forged *f); /* of zstd */
void forge_file(struct forged *f);  /* one that travels along */
/* All of it anew: another model, recipe and degree. */
void forge_remake(struct forged *f);
