/* encode_bytes FILE: ids by a compiled tokenizer of what `tprun tokenize` cannot be given: each
 * line of stdin is bytes in hex, a space, and for every byte 1 where it is data, else 0. A line of
 * ids each on stdout. For tests. */
#include "tokenizer.h"
#include <stdio.h>
#include <string.h>

enum { LINE_MAX_BYTES = 1 << 16 };

static bool read_line(FILE *in, char *text, unsigned char *origin, size_t *n)
{
    static char hex[2 * LINE_MAX_BYTES + 1], digits[LINE_MAX_BYTES + 1];
    if (fscanf(in, "%131072s %65536s", hex, digits) != 2)
        return false;
    *n = strlen(digits);
    for (size_t i = 0; i < *n; i++) {
        unsigned byte = 0;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            return false;
        text[i] = (char)byte;
        origin[i] = digits[i] == '1';
    }
    return true;
}

int main(int argc, char **argv)
{
    static char text[LINE_MAX_BYTES];
    static unsigned char origin[LINE_MAX_BYTES];
    struct tokenizer tokenizer;
    struct token_ids ids = {0};
    struct tp_error err = {0};
    if (argc != 2 || !tokenizer_open(argv[1], &tokenizer, &err))
        return 1;
    bool ok = true;
    for (size_t n; ok && read_line(stdin, text, origin, &n);) {
        ids.count = 0;
        ok = tokenizer_encode(&tokenizer, text, n, origin, 0, &ids, &err);
        for (size_t i = 0; i < ids.count; i++)
            printf("%s%u", i ? " " : "", ids.ids[i]);
        printf("\n");
    }
    token_ids_free(&ids);
    tokenizer_close(&tokenizer);
    return !ok;
}
