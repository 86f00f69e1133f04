#include "json_pull.h"
#include "checked.h"
#include "utf8.h"

#include <string.h>

/* ---- UTF-8 ---- */

bool pull_begin(struct json_pull *in)
{
    tp_assert(in->depth_max <= PULL_DEPTH_MAX);
    const unsigned char *s = (const unsigned char *)in->text;
    uint64_t i = 0;
    while (i < in->size) {
        uint64_t eight;
        while (in->size - i >= sizeof eight) {
            memcpy(&eight, s + i, sizeof eight);
            if (eight & 0x8080808080808080u)
                break;
            i += sizeof eight;
        }
        if (i == in->size)
            break;
        size_t n = utf8_length(s + i, in->size - i);
        if (n == 0)
            return tp_fail(in->err, in->not_utf8, "%s: not UTF-8: byte 0x%02x at offset %llu",
                           in->file, s[i], (unsigned long long)(in->base + i));
        i += n;
    }
    return true;
}

/* ---- bytes ---- */

static int byte_at(const struct json_pull *in, uint64_t at)
{
    return at < in->size ? (unsigned char)in->text[at] : -1;
}

static bool fail_at(struct json_pull *in, uint64_t at, const char *expected)
{
    int c = byte_at(in, at);
    unsigned long long offset = in->base + at;
    if (c < 0)
        return tp_fail(in->err, in->malformed, "%s: JSON ends at offset %llu, %s expected",
                       in->file, offset, expected);
    if (c > 0x20 && c < 0x7f)
        return tp_fail(in->err, in->malformed, "%s: JSON: '%c' at offset %llu, %s expected",
                       in->file, c, offset, expected);
    return tp_fail(in->err, in->malformed, "%s: JSON: byte 0x%02x at offset %llu, %s expected",
                   in->file, (unsigned)c, offset, expected);
}

int pull_peek(struct json_pull *in)
{
    int c;
    while ((c = byte_at(in, in->at)) == ' ' || c == '\n' || c == '\r' || c == '\t')
        in->at++;
    return c;
}

bool pull_end(struct json_pull *in)
{
    return pull_peek(in) < 0 || fail_at(in, in->at, "the end of the text");
}

bool pull_open(struct json_pull *in, char bracket)
{
    if (pull_peek(in) != bracket)
        return fail_at(in, in->at, bracket == '{' ? "'{'" : "'['");
    if (in->depth == in->depth_max)
        return tp_fail(in->err, in->too_deep, "%s: JSON nested deeper than %u at offset %llu",
                       in->file, in->depth_max, (unsigned long long)(in->base + in->at));
    in->depth++;
    in->at++;
    return true;
}

bool pull_next(struct json_pull *in, char closing, bool first, bool *more)
{
    int c = pull_peek(in);
    if (c == closing) {
        in->at++;
        in->depth--;
        *more = false;
        return true;
    }
    *more = true;
    if (first)
        return true;
    if (c != ',')
        return fail_at(in, in->at, closing == '}' ? "',' or '}'" : "',' or ']'");
    in->at++;
    return true;
}

/* ---- strings ---- */

/* Four hexadecimal digits at `at`; -1 if they are not. */
static int32_t hex4(const struct json_pull *in, uint64_t at)
{
    int32_t value = 0;
    for (uint64_t i = at; i < at + 4; i++) {
        int c = byte_at(in, i), lower = c | 0x20;
        if (c >= '0' && c <= '9')
            value = value << 4 | (c - '0');
        else if (c > 0 && lower >= 'a' && lower <= 'f')
            value = value << 4 | (lower - 'a' + 10);
        else
            return -1;
    }
    return value;
}

/* The escape at in->at, which is the backslash, as UTF-8 in out; its length, 0 on error. */
static size_t pull_escape(struct json_pull *in, unsigned char out[4])
{
    static const char plain[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    int c = byte_at(in, in->at + 1);
    const char *found = c > 0 ? strchr(plain, c) : NULL;
    if (found) {
        in->at += 2;
        out[0] = (unsigned char)meaning[found - plain];
        return 1;
    }
    int32_t high = c == 'u' ? hex4(in, in->at + 2) : -1;
    if (high < 0)
        return fail_at(in, in->at, "a valid escape");
    uint32_t code = (uint32_t)high;
    uint64_t used = 6;
    if (code >= 0xd800 && code < 0xdc00) {
        int32_t low = byte_at(in, in->at + 6) == '\\' && byte_at(in, in->at + 7) == 'u'
                          ? hex4(in, in->at + 8)
                          : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return fail_at(in, in->at, "a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
        used = 12;
    } else if (code >= 0xdc00 && code < 0xe000) {
        return fail_at(in, in->at, "a surrogate pair");
    }
    in->at += used;
    return utf8_encode(code, out);
}

bool pull_string(struct json_pull *in, char *buf, size_t cap, size_t *len)
{
    if (pull_peek(in) != '"')
        return fail_at(in, in->at, "'\"'");
    in->at++;
    size_t n = 0;
    for (;;) {
        int c = byte_at(in, in->at);
        unsigned char bytes[4] = {(unsigned char)c};
        size_t count = 1;
        if (c < 0x20)
            return fail_at(in, in->at, "a string character");
        if (c == '"')
            break;
        if (c != '\\')
            in->at++;
        else if ((count = pull_escape(in, bytes)) == 0)
            return false;
        for (size_t i = 0; i < count; i++, n++)
            if (n + 1 < cap)
                buf[n] = (char)bytes[i];
    }
    in->at++;
    if (cap)
        buf[n < cap ? n : cap - 1] = '\0';
    *len = n;
    return true;
}

bool pull_key(struct json_pull *in, char *buf, size_t cap, size_t *len)
{
    if (!pull_string(in, buf, cap, len))
        return false;
    if (pull_peek(in) != ':')
        return fail_at(in, in->at, "':'");
    in->at++;
    return true;
}

/* ---- other values ---- */

static uint64_t digits_end(const struct json_pull *in, uint64_t at)
{
    int c;
    while ((c = byte_at(in, at)) >= '0' && c <= '9')
        at++;
    return at;
}

bool pull_u64(struct json_pull *in, uint64_t *out)
{
    pull_peek(in);
    uint64_t end = digits_end(in, in->at), n = end - in->at;
    int after = byte_at(in, end);
    if (n == 0 || (n > 1 && in->text[in->at] == '0') || after == '.' || after == 'e' ||
        after == 'E' || !tp_parse_u64(in->text + in->at, n, out))
        return false;
    in->at = end;
    return true;
}

static bool skip_number(struct json_pull *in)
{
    uint64_t start = in->at + (byte_at(in, in->at) == '-'), end = digits_end(in, start);
    if (end == start)
        return fail_at(in, end, "a value");
    if (in->text[start] == '0' && end - start > 1)
        return fail_at(in, start + 1, "no digit after a leading zero");
    if (byte_at(in, end) == '.') {
        start = end + 1;
        if ((end = digits_end(in, start)) == start)
            return fail_at(in, end, "a digit");
    }
    if (byte_at(in, end) == 'e' || byte_at(in, end) == 'E') {
        start = end + 1;
        start += byte_at(in, start) == '-' || byte_at(in, start) == '+';
        if ((end = digits_end(in, start)) == start)
            return fail_at(in, end, "a digit");
    }
    in->at = end;
    return true;
}

static bool skip_scalar(struct json_pull *in)
{
    static const char *const literals[] = {"true", "false", "null"};
    size_t len;
    if (pull_peek(in) == '"')
        return pull_string(in, NULL, 0, &len);
    for (size_t i = 0; i < sizeof literals / sizeof *literals; i++) {
        size_t n = strlen(literals[i]);
        if (in->size - in->at >= n && memcmp(in->text + in->at, literals[i], n) == 0) {
            in->at += n;
            return true;
        }
    }
    return skip_number(in);
}

bool pull_skip(struct json_pull *in)
{
    uint64_t objects = 0; /* bit d: the bracket that made depth d + 1 is '{' */
    uint32_t outside = in->depth;
    bool value_next = true;
    do {
        int c = value_next ? pull_peek(in) : 0;
        bool opened = c == '{' || c == '[', more;
        if (opened) {
            if (!pull_open(in, (char)c))
                return false;
            uint64_t bit = 1ull << (in->depth - 1);
            objects = c == '{' ? objects | bit : objects & ~bit;
        } else if (value_next) {
            if (!skip_scalar(in))
                return false;
            if (in->depth == outside)
                return true;
        }
        bool object = objects >> (in->depth - 1) & 1;
        size_t len;
        if (!pull_next(in, object ? '}' : ']', opened, &more) ||
            (more && object && !pull_key(in, NULL, 0, &len)))
            return false;
        value_next = more;
    } while (in->depth > outside);
    return true;
}

const char *pull_kind(struct json_pull *in)
{
    switch (pull_peek(in)) {
    case '{':
        return "an object";
    case '[':
        return "an array";
    case '"':
        return "a string";
    case 't':
    case 'f':
        return "a boolean";
    case 'n':
        return "null";
    default:
        return "a number";
    }
}
