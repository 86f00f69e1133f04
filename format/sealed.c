#include "sealed.h"

#include "hash.h"
#include "mem.h"
#include <string.h>

enum { HEX = 32 };
static const char tail[] = "\"\n}\n";
enum { TAIL = sizeof tail - 1 };

char *sealed_text(json_t *root, size_t *n, struct tp_error *err)
{
    static const char zeros[] = "00000000000000000000000000000000";
    char hex[HEX + 1];
    if (json_object_set_new(root, "digest", json_string(zeros)) != 0) {
        tp_fail(err, TP_E_MEMORY, "out of memory: digest");
        return NULL;
    }
    char *text = json_text(root, n, err);
    if (!text)
        return NULL;
    text[(*n)++] = '\n'; /* in place of the NUL */
    size_t before = *n - TAIL - HEX;
    hash_to_hex(hash_bytes(text, before), hex);
    memcpy(text + before, hex, HEX);
    return text;
}

bool sealed_check(const char *path, const char *text, size_t n, struct tp_error *err)
{
    struct hash128 stored;
    char hex[HEX + 1] = "";
    if (n > TAIL + HEX)
        memcpy(hex, text + n - TAIL - HEX, HEX);
    bool same = !memchr(hex, '\0', HEX) && hash_from_hex(hex, &stored) &&
                hash_equal(stored, hash_bytes(text, n - TAIL - HEX));
    bool ended = n > TAIL + HEX && memcmp(text + n - TAIL, tail, TAIL) == 0;
    if (same && ended)
        return true;
    if (!same && !ended)
        return tp_fail(err, TP_E_MANIFEST, "%s: %zu bytes, cut before its end", path, n);
    return tp_fail(err, TP_E_MANIFEST_HASH, "%s: digest does not match, the file is damaged", path);
}
