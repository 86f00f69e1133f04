/* A small byte-level BPE tokenizer.json: ids 0..255 are the bytes, 256 + i is what merge i makes,
 * then a hole, then added tokens. Include it in one test program only. */
#pragma once
#include "io.h"
#include "mem.h"
#include "tokenizer.h"
#include "tokenizer_compile.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MERGE_0 = 256, ADDED_0 = 300 };

/* left, right; \xc4\xa0 is the letter of a space. "xyz" below is in the vocabulary without a
 * merge. */
static const char *const fixture_merges[][2] = {
    {"h", "e"},   {"l", "l"},          {"he", "ll"}, {"hell", "o"},         {"\xc4\xa0", "w"},
    {"o", "r"},   {"\xc4\xa0w", "or"}, {"l", "d"},   {"\xc4\xa0wor", "ld"}, {"a", "a"},
    {"aa", "aa"}, {"b", "a"},
};
enum { FIXTURE_MERGES = sizeof fixture_merges / sizeof *fixture_merges };
enum { ID_XYZ = MERGE_0 + FIXTURE_MERGES };

static struct tp_error fixture_error;

static void fixture_letter(int byte, char out[4])
{
    bool own = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    int below = byte <= 0x20 ? byte : byte <= 0xa0 ? byte - 0x7f + 33 : 67;
    unsigned code = (unsigned)(own ? byte : 0x100 + below);
    if (code < 0x80)
        snprintf(out, 4, "%c", (int)code);
    else
        snprintf(out, 4, "%c%c", (int)(0xc0 | code >> 6), (int)(0x80 | (code & 63)));
}

static void fixture_add(json_t *doc, const char *content, int id, const char *flags)
{
    json_array_append_new(
        json_object_get(doc, "added_tokens"),
        json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", content, "special",
                  strchr(flags, 's') != NULL, "normalized", strchr(flags, 'n') != NULL, "lstrip",
                  strchr(flags, 'l') != NULL, "rstrip", strchr(flags, 'r') != NULL, "single_word",
                  strchr(flags, 'w') != NULL));
}

/* pre: the pre_tokenizer as JSON; NULL: ByteLevel with GPT-2's pattern */
static json_t *fixture_doc(const char *pre)
{
    json_t *vocab = json_object(), *merges = json_array();
    for (int b = 0; b < 256; b++) {
        char letter[4];
        fixture_letter(b, letter);
        json_object_set_new(vocab, letter, json_integer(b));
    }
    for (int i = 0; i < FIXTURE_MERGES; i++) {
        char text[32];
        snprintf(text, sizeof text, "%s%s", fixture_merges[i][0], fixture_merges[i][1]);
        json_object_set_new(vocab, text, json_integer(MERGE_0 + i));
        snprintf(text, sizeof text, "%s %s", fixture_merges[i][0], fixture_merges[i][1]);
        json_array_append_new(merges, json_string(text));
    }
    json_object_set_new(vocab, "xyz", json_integer(ID_XYZ));
    json_t *doc =
        json_pack("{s:s, s:[], s:n, s:o, s:n, s:{s:s}, s:{s:s, s:o, s:o}}", "version", "1.0",
                  "added_tokens", "normalizer", "pre_tokenizer",
                  json_loads(pre ? pre
                                 : "{\"type\": \"ByteLevel\", \"add_prefix_space\": false,"
                                   " \"trim_offsets\": true, \"use_regex\": true}",
                             0, NULL),
                  "post_processor", "decoder", "type", "ByteLevel", "model", "type", "BPE", "vocab",
                  vocab, "merges", merges);
    fixture_add(doc, "<s>", ADDED_0, "s");
    fixture_add(doc, "</s>", ADDED_0 + 1, "s");
    assert_non_null(doc);
    return doc;
}

/* Compile; releases doc. false: fixture_error says why. */
static bool fixture_compile(json_t *doc, unsigned char **data, uint64_t *n)
{
    char *text = json_dumps(doc, 0);
    assert_non_null(text);
    json_decref(doc);
    fixture_error = (struct tp_error){0};
    bool ok = tokenizer_compile("tokenizer.json", text, strlen(text), NULL, NULL, data, n,
                                &fixture_error);
    free(text);
    return ok;
}

struct fixture {
    unsigned char *data;
    uint64_t n;
    struct tokenizer tokenizer;
    struct token_ids ids;
};

static inline void fixture_open(struct fixture *f, json_t *doc)
{
    *f = (struct fixture){0};
    if (!fixture_compile(doc, &f->data, &f->n) ||
        !tokenizer_open_bytes(f->data, f->n, "fixture", &f->tokenizer, &fixture_error))
        fail_msg("%s", fixture_error.text);
}

static inline void fixture_close(struct fixture *f)
{
    tokenizer_close(&f->tokenizer);
    token_ids_free(&f->ids);
    mem_free(f->data);
}

/* "12 34" for the ids of text, n bytes; valid until the next call. */
static inline const char *fixture_encode(struct fixture *f, const char *text, size_t n,
                                         unsigned flags)
{
    static char line[4096];
    size_t at = 0;
    f->ids.count = 0;
    f->ids.dropped = 0;
    struct tp_error err = {0};
    if (!tokenizer_encode(&f->tokenizer, text, n, NULL, flags, &f->ids, &err))
        fail_msg("%s", err.text);
    line[0] = '\0';
    for (size_t i = 0; i < f->ids.count && at < sizeof line - 16; i++)
        at += (size_t)snprintf(line + at, sizeof line - at, "%s%u", i ? " " : "", f->ids.ids[i]);
    return line;
}

#define assert_ids(f, text, wanted)                                                                \
    assert_string_equal(fixture_encode(f, text, sizeof(text) - 1, 0), wanted)

/* The bytes of all ids, NUL-terminated; the caller frees with mem_free. */
static inline char *fixture_decode(const struct fixture *f, size_t *n)
{
    size_t total = 0, at = 0;
    for (size_t i = 0; i < f->ids.count; i++)
        total += tokenizer_file_token(&f->tokenizer.file, f->ids.ids[i]).n;
    char *text = mem_alloc(total + 1, NULL);
    for (size_t i = 0; i < f->ids.count; i++) {
        struct tokenizer_bytes b = tokenizer_file_token(&f->tokenizer.file, f->ids.ids[i]);
        if (b.n)
            memcpy(text + at, b.data, b.n);
        at += b.n;
    }
    *n = total;
    return text;
}
