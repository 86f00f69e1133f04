/* Forging bundles: one in memory, anything in it changed at random, and its hashes made right
 * again; some stay stale. */
#pragma once
#include "error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { FORGE_RANKS_MAX = 48, FORGE_FILES_MAX = 32 };

struct forged_file {
    char name[256];
    unsigned char *bytes; /* NULL: the file is missing */
    uint64_t n;
};

struct forged {
    uint64_t random; /* state: the same one, the same forgery */
    json_t *manifest;
    const char *raw; /* what stands in the text where the manifest says FORGE_RAW; NULL: nothing */
    struct forged_file ranks[FORGE_RANKS_MAX], files[FORGE_FILES_MAX];
    uint32_t n_ranks, n_files;
    unsigned stale;    /* per cent of the hashes that are left as they are */
    const char *kind;  /* of what was changed */
    char changed[512]; /* what was changed to what, for people */
};

/* {0} may be closed; random is kept. */
bool forge_load(struct forged *f, const char *dir, struct tp_error *err);
void forge_free(struct forged *f);
/* A change or two, of what and to what is chosen at random. */
void forge_change(struct forged *f);
/* Hashes, sizes and identity, nearly always all of them; the manifest's text to *text, n bytes
 * (mem_free). */
bool forge_seal(struct forged *f, char **text, size_t *n, struct tp_error *err);
/* Into a folder that is there, over what is there. */
bool forge_write(const struct forged *f, const char *dir, const char *text, size_t n,
                 struct tp_error *err);

/* ---- chance ---- */

uint64_t forge_next(struct forged *f);
static inline uint64_t forge_below(struct forged *f, uint64_t n)
{
    return forge_next(f) % n;
}
static inline bool forge_chance(struct forged *f, unsigned percent)
{
    return forge_below(f, 100) < percent;
}
