#include "open_tokenizer.h"

#include "bundle.h"
#include "mem.h"

bool tokenizer_open_either(const char *path, struct tokenizer *tokenizer, char **bytes,
                           struct tp_error *err)
{
    struct bundle bundle;
    size_t n;
    *bytes = NULL;
    if (!io_is_dir(path))
        return tokenizer_open(path, tokenizer, err);
    if (!bundle_open(&bundle, path, false, err))
        return false;
    const struct bundle_file *file = bundle_find_file(&bundle, BUNDLE_TOKENIZER);
    bool ok = file ? bundle_read_file(&bundle, file, bytes, &n, err) &&
                         tokenizer_open_bytes(*bytes, n, BUNDLE_TOKENIZER, tokenizer, err)
                   : tp_fail(err, TP_E_TK_UNSUPPORTED, "%s: no tokenizer in this bundle", path);
    bundle_close(&bundle);
    if (!ok) {
        mem_free(*bytes);
        *bytes = NULL;
    }
    return ok;
}
