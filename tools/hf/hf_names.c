#include "hf_names.h"

#include <stdio.h>
#include <string.h>

static const char usual[] = "model.";

const char *hf_names_prefix(const struct checkpoint *ck)
{
    static const char *const prefixes[] = {usual,
                                           "",
                                           "model.model.",
                                           "language_model.model.",
                                           "model.language_model.",
                                           "language_model."};
    static const enum role everywhere[] = {ROLE_EMBED, ROLE_FINAL_NORM}; /* the first may be tied */
    char name[HF_NAME_MAX];
    for (size_t r = 0; r < sizeof everywhere / sizeof *everywhere; r++)
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
            if (checkpoint_find(ck, hf_name(name, ck, prefixes[i], everywhere[r], TENSOR_NO_LAYER,
                                            PART_WEIGHT)))
                return prefixes[i];
    return usual;
}

const char *hf_name(char buf[HF_NAME_MAX], const struct checkpoint *ck, const char *prefix,
                    enum role role, uint32_t layer, enum part part)
{
    char name[TENSOR_NAME_MAX];
    tensor_name(name, role, layer, part);
    if (strncmp(name, usual, strlen(usual)) == 0) {
        snprintf(buf, HF_NAME_MAX, "%s%s", prefix, name + strlen(usual));
        return buf;
    }
    for (size_t n = 0; n <= strlen(prefix); n++) {
        if (n && prefix[n - 1] != '.')
            continue;
        snprintf(buf, HF_NAME_MAX, "%.*s%s", (int)n, prefix, name);
        if (checkpoint_find(ck, buf))
            return buf;
    }
    snprintf(buf, HF_NAME_MAX, "%s", name);
    return buf;
}

const char *hf_name_ending(const char *name, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(name, prefix, n) == 0 ? name + n : name;
}
