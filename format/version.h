/* What a program says of itself: --version, and tprun info. The versions of what is stored are kept
 * here, together: a change of layout or meaning is a new number (docs/format.md). */
#pragma once

enum {
    BUNDLE_FORMAT_VERSION = 2, /* the manifest, and what belongs to a bundle */
    SHARD_VERSION = 2,         /* a rank file */
    TOKENIZER_VERSION = 2,     /* a compiled tokenizer */
};

struct version {
    const char *number;   /* of the release */
    const char *commit;   /* "unknown" where it was not built in a git checkout */
    const char *compiler; /* name and version */
};
extern const struct version version_built;

/* On standard output. */
void version_print(const char *program);
