#include "file_kind.h"

#include <string.h>
#include <strings.h>

/* clang-format off */
static const struct {
    size_t offset, len;
    const char *magic; /* letters of either case */
    const char *kind, *advice;
    const char *instead; /* what it is not; NULL: what is wanted */
} kinds[] = {
#define AT(offset, magic) offset, sizeof magic - 1, magic
    {AT(0, "version https://git-lfs"), "is a Git LFS pointer", "run git lfs pull", "the file"},
    {AT(0, "\x1f\x8b"), "is gzip data", "unpack it first", NULL},
    {AT(0, "\x28\xb5\x2f\xfd"), "is zstd data", "unpack it first", NULL},
    {AT(0, "\xfd" "7zXZ"), "is xz data", "unpack it first", NULL},
    {AT(257, "ustar"), "is a tar archive", "unpack it first", NULL},
    {AT(0, "PK\x03\x04"), "is a zip archive, such as a PyTorch pickle",
     "pickle is never opened; get the safetensors", NULL},
    {AT(0, "\x80\x02"), "is a Python pickle", "pickle is never opened; get the safetensors", NULL},
    {AT(0, "\x80\x04"), "is a Python pickle", "pickle is never opened; get the safetensors", NULL},
    {AT(0, "GGUF"), "is a GGUF file", "get the original model folder", NULL},
    {AT(0, "<!doctype"), "is an HTML page", "the download failed; fetch it again", NULL},
    {AT(0, "<html"), "is an HTML page", "the download failed; fetch it again", NULL},
    {AT(0, "<?xml"), "is an XML page", "the download failed; fetch it again", NULL},
    {AT(0, "Entry not found"), "is an error of the Hub",
     "the download failed; fetch it again", NULL},
    {AT(0, "Access to model"), "is an error of the Hub",
     "ask for access to the model, then fetch it again", NULL},
    {AT(0, "Invalid username or password"), "is an error of the Hub",
     "log in, then fetch it again", NULL},
    {AT(0, "\xef\xbb\xbf"), "begins with a byte order mark (BOM)", "save it as UTF-8 without", ""},
    {AT(0, "\xff\xfe"), "is UTF-16 text", "save it as UTF-8", "UTF-8"},
    {AT(0, "\xfe\xff"), "is UTF-16 text", "save it as UTF-8", "UTF-8"},
#undef AT
};
/* clang-format on */

static bool begins(const char *head, size_t n, size_t i)
{
    return n >= kinds[i].len && strncasecmp(head, kinds[i].magic, kinds[i].len) == 0;
}

bool file_kind_check(const char *file, const void *head, size_t n, const char *wanted,
                     enum tp_code code, struct tp_error *err)
{
    const char *text = head, *end = text + n, *words = text;
    while (words < end && strchr(" \t\r\n", *words) && *words)
        words++; /* pages may begin with white space, the others do not */
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *from = *kinds[i].magic == '<' ? words : text;
        if ((size_t)(end - from) < kinds[i].offset ||
            !begins(from + kinds[i].offset, (size_t)(end - from) - kinds[i].offset, i))
            continue;
        const char *instead = kinds[i].instead ? kinds[i].instead : wanted;
        return tp_fail(err, code, "%s: %s%s%s: %s", file, kinds[i].kind, *instead ? ", not " : "",
                       instead, kinds[i].advice);
    }
    return true;
}
