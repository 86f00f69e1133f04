#include "version.h"

#include <stdio.h>

/* TP_VERSION and TP_COMMIT are of a header that scripts/make_version.sh makes. */
#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

const struct version version_built = {
    .number = TP_VERSION, .commit = TP_COMMIT, .compiler = COMPILER};

void version_print(const char *program)
{
    printf("%s %s\n"
           "commit    %s\n"
           "compiler  %s\n"
           "formats   bundle %d, rank file %d, compiled tokenizer %d\n",
           program, version_built.number, version_built.commit, version_built.compiler,
           BUNDLE_FORMAT_VERSION, SHARD_VERSION, TOKENIZER_VERSION);
}
