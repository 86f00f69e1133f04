#include "text.h"

#include "mem.h"
#include <stdio.h>
#include <string.h>

bool tp_text_add(struct tp_text *text, const char *bytes, size_t n, struct tp_error *err)
{
    if (!mem_grow((void **)&text->data, &text->cap, text->n + n, 1, err))
        return false;
    if (n)
        memcpy(text->data + text->n, bytes, n);
    text->n += n;
    return true;
}

bool tp_text_add_escaped(struct tp_text *out, const char *text, size_t n, struct tp_error *err)
{
    size_t plain = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
            continue;
        char escape[8] = {'\\', (char)c};
        size_t length = 2;
        if (c == '\n')
            escape[1] = 'n';
        else if (c != '"' && c != '\\')
            length = (size_t)snprintf(escape, sizeof escape, "\\u%04x", c);
        if (!tp_text_add(out, text + plain, i - plain, err) ||
            !tp_text_add(out, escape, length, err))
            return false;
        plain = i + 1;
    }
    return tp_text_add(out, text + plain, n - plain, err);
}
