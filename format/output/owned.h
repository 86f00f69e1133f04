/* What of a finished folder is ours: the files that its manifest names, with the size and hash that
 * it gives. A bundle has manifest.json, an export BUNDLE_EXPORT; it may have the folder
 * TEMPLATES_FOLDER, which is ours if all in it is. All else in the folder is somebody's.
 */
#pragma once
#include "bundle.h"
#include "folder.h"

struct owned_file {
    char name[256];
    bool template; /* in the folder of templates */
    uint64_t rank; /* of a rank file; OWNED_NO_RANK: another */
    uint64_t bytes;
    struct hash128 hash;    /* of the whole; a rank file's header and table say more */
    bool as_named;          /* owned_check found it so */
    struct io_identity who; /* what it was then */
};
#define OWNED_NO_RANK UINT64_MAX

struct owned {
    struct folder folder, templates; /* the latter fd -1 where there is none */
    struct hash128 id;               /* of the manifest's bytes */
    struct owned_file *files;        /* [n_files], the manifest last */
    uint32_t n_files;
    struct bundle bundle; /* of a bundle */
    struct mem_arena arena;
};

#define OWNED_CLOSED                                                                               \
    {                                                                                              \
        .folder.fd = -1, .templates.fd = -1                                                        \
    }

/* Read the manifest of a folder; shown is its name for messages. TP_E_OUTPUT_EXISTS: none that can
 * be read; the reason is in the text. OWNED_CLOSED may be closed. */
bool owned_open(struct owned *owned, const struct folder *in, const char *name, const char *shown,
                struct tp_error *err);
void owned_close(struct owned *owned);
/* The hash of the manifest's bytes alone; false: there is none. */
bool owned_id(const struct folder *folder, struct hash128 *id);
/* Read every byte of the files, and say of each whether it is as named. TP_E_IO: one cannot be
 * read. */
bool owned_check(struct owned *owned, int threads, struct tp_error *err);
/* The first file that owned_check found to be another; NULL: none. */
const char *owned_changed(const struct owned *owned);
/* The file is as named, and what owned_check saw; or it is the folder of templates, and all in it
 * is. */
bool owned_is_ours(const struct owned *owned, const char *name);
/* Delete one that is ours. */
bool owned_remove(const struct owned *owned, const char *name, struct tp_error *err);

/* The manifest of an export: names, sizes and hashes of its other files. mem_free; NULL on
 * error. */
char *owned_export_text(struct hash128 bundle_id, const struct bundle_file *files, uint32_t n_files,
                        size_t *n, struct tp_error *err);
