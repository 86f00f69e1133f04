#include "shown.h"

#include "utf8.h"
#include <stdbool.h>
#include <string.h>

enum { WORD_MIN = 64 }; /* words are not made shorter */

/* Controls; what reorders or hides text; what breaks lines. */
static bool is_obeyed(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0xad || c == 0x61c || c == 0x180e ||
           (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
           (c >= 0xe0000 && c <= 0xe0fff);
}

/* Bytes of the character at s; 0 where it cannot be shown. */
static size_t shown_length(const unsigned char *s, size_t left)
{
    size_t n = utf8_length(s, left);
    return n && !is_obeyed(utf8_decode(s, n)) ? n : 0;
}

/* What stands for the character or byte at s: its length in out; *taken bytes of s. */
static size_t show(char out[4], const char *s, size_t left, size_t *taken)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char byte = (unsigned char)*s;
    size_t n = shown_length((const unsigned char *)s, left);
    *taken = n ? n : 1;
    if (n) {
        memcpy(out, s, n);
        return n;
    }
    out[0] = '\\';
    out[1] = 'x';
    out[2] = hex[byte >> 4];
    out[3] = hex[byte & 15];
    return 4;
}

size_t shown_escape(char *out, size_t size, const char *text, size_t n)
{
    size_t at = 0;
    char one[4];
    for (size_t i = 0, taken, k; i < n; i += taken, at += k) {
        k = show(one, text + i, n - i, &taken);
        if (k >= size - at)
            break;
        memcpy(out + at, one, k);
    }
    out[at] = '\0';
    return at;
}

size_t shown_put(FILE *out, const char *text)
{
    size_t n = strlen(text), total = 0;
    char one[4];
    for (size_t i = 0, taken, k; i < n; i += taken, total += k) {
        k = show(one, text + i, n - i, &taken);
        fwrite(one, 1, k, out);
    }
    return total;
}

void shown_put_json(FILE *out, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t n = strlen(text), plain = 0; /* printed up to here */
    for (size_t i = 0, k; i < n; i += k) {
        k = utf8_length(s + i, n - i);
        uint32_t c = k ? utf8_decode(s + i, k) : 0xfffd;
        if (k && (c == '\n' || !is_obeyed(c)))
            continue;
        fwrite(s + plain, 1, i - plain, out);
        k = k ? k : 1;
        plain = i + k;
        if (c < 0x10000)
            fprintf(out, "\\u%04x", c);
        else
            fprintf(out, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
    }
    fwrite(s + plain, 1, n - plain, out);
}

/* ---- shorter ---- */

static bool within_character(const char *text, size_t at)
{
    return ((unsigned char)text[at] & 0xc0) == 0x80;
}

/* Leave at most `keep` bytes of text[begin, end): a quarter of its beginning, and its end, which is
 * where a path has its file. */
static void cut_middle(char *text, size_t begin, size_t end, size_t keep)
{
    static const char dots[] = "...";
    size_t room = keep - (sizeof dots - 1), head = begin + room / 4, tail = end - (room - room / 4);
    while (head > begin && within_character(text, head))
        head--;
    while (tail < end && within_character(text, tail))
        tail++;
    memcpy(text + head, dots, sizeof dots - 1);
    memmove(text + head + sizeof dots - 1, text + tail, strlen(text + tail) + 1);
}

static void longest_word(const char *text, size_t *begin, size_t *end)
{
    *begin = *end = 0;
    for (size_t at = 0, n; text[at]; at += n ? n : 1) {
        n = strcspn(text + at, " ");
        if (n > *end - *begin) {
            *begin = at;
            *end = at + n;
        }
    }
}

void shown_shorten(char *text, size_t room)
{
    for (size_t n; (n = strlen(text)) > room;) {
        size_t begin, end, word, keep;
        longest_word(text, &begin, &end);
        word = end - begin;
        keep = n - room < word / 2 ? word - (n - room) : word / 2; /* several share it */
        if (word <= WORD_MIN) {
            cut_middle(text, 0, n, room);
            return;
        }
        cut_middle(text, begin, end, keep < WORD_MIN ? WORD_MIN : keep);
    }
}
