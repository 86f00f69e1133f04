/* A bundle: the folder with manifest.json, rank files and the files that travel along.
 *
 * manifest.json ends with its own digest (sealed.h). Reading takes a private copy, checks the
 * digest, then every field against the plan that model, recipe and tp_size give.
 */
#pragma once
#include "hash.h"
#include "json.h"
#include "rank_plan.h"
#include "shard.h"
#include "version.h"

#define BUNDLE_MANIFEST "manifest.json"
#define BUNDLE_MANIFEST_OPEN                                                                       \
    "manifest.open.json" /* before the commit: only selftest --record reads it */
#define BUNDLE_SELFTEST "selftest.json"
#define TEMPLATES_FOLDER "additional_chat_templates" /* of a model's folder */
#define BUNDLE_TEMPLATES TEMPLATES_FOLDER ".json"    /* all that is in it, as one file */
#define BUNDLE_TOKENIZER "tokenizer.tpt"
#define BUNDLE_EXPORT "tpshard-export.json" /* what an export has in place of a manifest */
enum { BUNDLE_MANIFEST_MAX = 64 << 20, BUNDLE_FILES_MAX = 32 };

/* A file that travels along (config.json, tokenizer.json, tokenizer.tpt, selftest.json ...). */
struct bundle_file {
    char name[256];
    uint64_t bytes;
    struct hash128 hash;
};

struct bundle_rank {
    uint64_t file_bytes;
    struct hash128 head_hash; /* of the header: pins table, and so every chunk */
};

struct bundle {
    char dir[IO_PATH_MAX];
    struct model_config model;
    uint64_t layers_of; /* of the checkpoint, of which model may have the first alone */
    struct recipe recipe;
    enum compress compress;
    uint64_t tp_size;
    struct hash128 bundle_id;
    struct hash128 manifest_hash; /* of all bytes of manifest.json */
    uint64_t manifest_bytes;
    uint32_t n_files;
    struct bundle_file files[BUNDLE_FILES_MAX];
    uint64_t n_layers;         /* of the rank files: the model's, but where it was cut */
    struct bundle_rank *ranks; /* [tp_size] */
    struct rank_plan *plans;   /* [tp_size] */
    json_t *root;              /* the manifest; owns all JSON below it */
    const json_t *source;      /* digests of the checkpoint, as converted; copied by reshard */
    const json_t *templates;   /* name to SHA-256 of each chat template; NULL: none */
    struct mem_arena arena;
};

/* open_manifest: read BUNDLE_MANIFEST_OPEN in place of BUNDLE_MANIFEST. Errors TP_E_BUNDLE_NONE (no
 * manifest: not a bundle, or an unfinished one), TP_E_MANIFEST, TP_E_MANIFEST_HASH, TP_E_VERSION,
 * TP_E_IX_LINK (link.h: any of its files). A {0} bundle may be closed. */
bool bundle_open(struct bundle *bundle, const char *dir, bool open_manifest, struct tp_error *err);
/* The same from a manifest in memory; path is for messages. */
bool bundle_parse(struct bundle *bundle, const char *dir, const char *path, const char *text,
                  size_t n, struct tp_error *err);
void bundle_close(struct bundle *bundle);
/* Of the model the first n_layers alone, 1 to as many as it has. */
void bundle_cut(struct bundle *bundle, uint64_t n_layers);
/* Call fn with the name of every file of the bundle, the manifest's last; while it returns true. */
bool bundle_each_file(const struct bundle *bundle, bool (*fn)(void *arg, const char *name),
                      void *arg);
/* shard_open for a rank, then head_hash and file size against the manifest. */
bool bundle_open_rank(const struct bundle *bundle, uint64_t rank, struct shard *shard,
                      struct tp_error *err);
/* What a file that travels along cannot be called: names of the format, of its making, of
 * weights. */
bool bundle_name_is_reserved(const char *name);
const struct bundle_file *bundle_find_file(const struct bundle *bundle, const char *name);
/* A private copy of a travelling file, its hash checked (TP_E_FILE_HASH); mem_free. */
bool bundle_read_file(const struct bundle *bundle, const struct bundle_file *file, char **data,
                      size_t *size, struct tp_error *err);
/* All travelling files against their hashes. */
bool bundle_check_files(const struct bundle *bundle, struct tp_error *err);

/* ---- writing ---- */

/* The manifest's text, digest included, from a bundle filled in memory (dir and root unused;
 * shards' heads given per rank for offsets and hashes). Caller frees with mem_free. */
char *bundle_manifest_text(const struct bundle *bundle, const struct shard_head *heads,
                           size_t *size, struct tp_error *err);
/* XXH3-128 over model, recipe, leaves, source digests and travelling files but selftest.json:
 * not tp_size, compression, time, threads or machine. */
bool bundle_id_of(const struct bundle *bundle, struct hash128 *id, struct tp_error *err);
