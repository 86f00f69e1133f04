#include "line_json.h"

#include "utf8.h"

struct reader {
    const unsigned char *begin, *at, *end;
    uint64_t number;
    struct tp_error *err;
};

static struct reader reader_of(const char *line, size_t n, uint64_t number, struct tp_error *err)
{
    const unsigned char *s = (const unsigned char *)line;
    return (struct reader){s, s, s + n, number, err};
}

static bool bad(const struct reader *r, const char *what)
{
    return tp_fail(r->err, TP_E_JSON, "standard input: line %llu, byte %zu: %s",
                   (unsigned long long)r->number, (size_t)(r->at - r->begin) + 1, what);
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\r'))
        r->at++;
}

/* The next byte, if it is c. */
static bool take(struct reader *r, unsigned char c)
{
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static bool at_end(struct reader *r)
{
    skip_space(r);
    return r->at == r->end || bad(r, "the end of the line expected");
}

/* ---- strings ---- */

/* Four hexadecimal digits. */
static bool hex4(struct reader *r, uint32_t *unit)
{
    *unit = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        unsigned c = r->at < r->end ? *r->at : 0;
        unsigned digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
        if (digit > 15)
            return bad(r, "four hexadecimal digits expected");
        *unit = *unit << 4 | digit;
    }
    return true;
}

/* What follows \u: a character, or the first half of one and the second. */
static bool take_unit(struct reader *r, uint32_t *c)
{
    uint32_t low;
    if (!hex4(r, c))
        return false;
    if (*c < 0xd800 || *c > 0xdfff)
        return true;
    if (*c > 0xdbff || !take(r, '\\') || !take(r, 'u'))
        return bad(r, "half a character");
    if (!hex4(r, &low))
        return false;
    if (low < 0xdc00 || low > 0xdfff)
        return bad(r, "half a character");
    *c = 0x10000 + ((*c - 0xd800) << 10 | (low - 0xdc00));
    return true;
}

/* What follows a backslash. */
static bool take_escape(struct reader *r, uint32_t *c)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (take(r, 'u'))
        return take_unit(r, c);
    for (size_t i = 0; letters[i]; i++)
        if (take(r, (unsigned char)letters[i])) {
            *c = (unsigned char)meant[i];
            return true;
        }
    return bad(r, "no escape");
}

bool line_json_string(char *line, size_t n, uint64_t number, char **text, size_t *text_n,
                      struct tp_error *err)
{
    struct reader r = reader_of(line, n, number, err);
    skip_space(&r);
    if (!take(&r, '"'))
        return bad(&r, "a JSON string expected");
    unsigned char *to = (unsigned char *)line + (r.at - r.begin);
    *text = (char *)to;
    while (!take(&r, '"')) {
        size_t k = utf8_length(r.at, (size_t)(r.end - r.at));
        uint32_t c = 0;
        if (take(&r, '\\')) { /* an escape is longer than its character */
            if (!take_escape(&r, &c))
                return false;
            to += utf8_encode(c, to);
            continue;
        }
        if (r.at == r.end)
            return bad(&r, "the string does not end");
        if (*r.at < 0x20)
            return bad(&r, "a control character that is not escaped");
        if (k == 0)
            return bad(&r, "not UTF-8");
        while (k--)
            *to++ = *r.at++;
    }
    *text_n = (size_t)((char *)to - *text);
    return at_end(&r);
}

/* ---- ids ---- */

static bool take_id(struct reader *r)
{
    uint64_t id = 0;
    const unsigned char *first = r->at;
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9' && id <= UINT32_MAX; r->at++)
        id = 10 * id + (*r->at - '0');
    if (r->at > first && id <= UINT32_MAX && (*first != '0' || r->at == first + 1))
        return true;
    r->at = first;
    return bad(r, "token ids from 0 to 4294967295 expected");
}

bool line_json_ids(const char *line, size_t n, uint64_t number, size_t *count, struct tp_error *err)
{
    struct reader r = reader_of(line, n, number, err);
    *count = 0;
    skip_space(&r);
    if (!take(&r, '['))
        return bad(&r, "a JSON array of token ids expected");
    for (skip_space(&r); *count || !take(&r, ']'); skip_space(&r)) {
        if (!take_id(&r))
            return false;
        ++*count;
        skip_space(&r);
        if (take(&r, ']'))
            break;
        if (!take(&r, ','))
            return bad(&r, "\",\" or \"]\" expected");
    }
    return at_end(&r);
}

uint32_t line_json_id(const char **at)
{
    const char *s = *at;
    uint32_t id = 0;
    while (*s < '0' || *s > '9')
        s++;
    for (; *s >= '0' && *s <= '9'; s++)
        id = 10 * id + (uint32_t)(*s - '0');
    *at = s;
    return id;
}
