#include "tokenizer_file.h"

#include "checked.h"
#include "hash.h"
#include "normalizer.h"
#include "utf8.h"
#include <string.h>

static const char magic[8] = "TPTOKEN\n";

enum {
    AT_VERSION = 8,
    AT_HEADER = 12,
    AT_BYTES = 16,
    AT_HASH = 24,
    AT_HASHED = 40,
    AT_MODEL = 40,
    AT_TOKENS = 44,
    AT_INDEX_PROBES = 48,
    AT_MERGE_PROBES = 52,
    AT_ADDED_RAW = 56,
    AT_POST_BEFORE = 60,
    AT_MODEL_FLAGS = 64,
    AT_UNK = 68,
    AT_DECODER = 72,
    AT_STRIP = 76,
    AT_STRIP_BEGIN = 80,
    AT_STRIP_END = 84,
    AT_ZEROS = 88,
    AT_SECTIONS = 128,
    MERGE_BYTES = 16,
    ADDED_BYTES = 16,
    STEP_BYTES = 16,
    NORMALIZER_BYTES = 24,
    TEXT_BYTES = 16,
};
_Static_assert(AT_SECTIONS + 16 * SECTION_COUNT == TOKENIZER_HEADER_BYTES, "header of 512 bytes");

void tokenizer_file_seal(unsigned char *data, uint64_t n)
{
    struct hash128 hash = hash_bytes(data + AT_HASHED, n - AT_HASHED);
    memcpy(data + AT_HASH, hash.bytes, sizeof hash.bytes);
}

/* ---- checks at opening: what the lookups rely on ---- */

struct opening {
    const unsigned char *data;
    uint64_t n;
    const char *name;
    uint64_t bytes[SECTION_COUNT];
    struct tokenizer_file *file;
    struct tp_error *err;
};

static bool bad(const struct opening *in, const char *what)
{
    return tp_fail(in->err, TP_E_TK_INVALID, "%s: compiled tokenizer: %s", in->name, what);
}

static bool check_header(const struct opening *in)
{
    const unsigned char *h = in->data;
    if (in->n < TOKENIZER_HEADER_BYTES || memcmp(h, magic, sizeof magic) != 0)
        return bad(in, "no header");
    if (le_u32(h + AT_VERSION) != TOKENIZER_VERSION)
        return tp_fail(in->err, TP_E_VERSION, "%s: compiled tokenizer of version %u, %u expected",
                       in->name, le_u32(h + AT_VERSION), TOKENIZER_VERSION);
    if (le_u32(h + AT_HEADER) != TOKENIZER_HEADER_BYTES || le_u64(h + AT_BYTES) != in->n)
        return tp_fail(in->err, TP_E_TK_INVALID,
                       "%s: compiled tokenizer of %llu bytes, %llu expected", in->name,
                       (unsigned long long)in->n, (unsigned long long)le_u64(h + AT_BYTES));
    struct hash128 found = hash_bytes(h + AT_HASHED, in->n - AT_HASHED), stored;
    memcpy(stored.bytes, h + AT_HASH, sizeof stored.bytes);
    if (!hash_equal(found, stored))
        return tp_fail(in->err, TP_E_FILE_HASH, "%s: compiled tokenizer: hash differs", in->name);
    return true;
}

static bool all_zero(const unsigned char *from, const unsigned char *to)
{
    while (from < to)
        if (*from++)
            return false;
    return true;
}

static bool check_model(const struct opening *in)
{
    struct tokenizer_file *file = in->file;
    const unsigned char *h = in->data;
    struct tokenizer_decoder *d = &file->decoder;
    file->model = (enum tokenizer_model)le_u32(h + AT_MODEL);
    file->model_flags = le_u32(h + AT_MODEL_FLAGS);
    file->unk = le_u32(h + AT_UNK);
    d->mode = (enum decoder_mode)le_u32(h + AT_DECODER);
    d->strip = le_u32(h + AT_STRIP);
    d->strip_begin = le_u32(h + AT_STRIP_BEGIN);
    d->strip_end = le_u32(h + AT_STRIP_END);
    if ((file->model != MODEL_BPE_BYTES && file->model != MODEL_BPE_CHARS) || file->model_flags > 7)
        return bad(in, "unknown model");
    if (d->mode < DECODE_BYTES || d->mode > DECODE_WORDS || d->strip > 0x10ffff)
        return bad(in, "unknown decoder");
    if (!all_zero(h + AT_ZEROS, h + AT_SECTIONS))
        return bad(in, "reserved bytes that are not zero");
    file->tokens = le_u32(h + AT_TOKENS);
    return file->unk == TOKEN_NONE || file->unk < file->tokens ||
           bad(in, "unknown token outside the vocabulary");
}

/* Sections in order, aligned, with nothing but zeros between. */
static bool check_sections(struct opening *in)
{
    uint64_t end = TOKENIZER_HEADER_BYTES;
    for (int i = 0; i < SECTION_COUNT; i++) {
        uint64_t offset = le_u64(in->data + AT_SECTIONS + 16 * i);
        uint64_t bytes = le_u64(in->data + AT_SECTIONS + 16 * i + 8);
        if (bytes == 0) {
            if (offset)
                return bad(in, "an empty section has an offset");
            continue;
        }
        if (i >= SECTION_USED)
            return bad(in, "unknown section");
        if (offset % TOKENIZER_ALIGN || offset < end || offset - end >= TOKENIZER_ALIGN ||
            !tp_range_in(offset, bytes, in->n))
            return bad(in, "section outside the file");
        if (!all_zero(in->data + end, in->data + offset))
            return bad(in, "bytes between sections");
        in->file->section[i] = in->data + offset;
        in->bytes[i] = bytes;
        end = offset + bytes;
    }
    return end == in->n || bad(in, "bytes after the last section");
}

/* bytes[i] is count * size, and count at most max */
static bool count_of(const struct opening *in, int section, uint64_t size, uint64_t max,
                     uint32_t *count)
{
    if (in->bytes[section] % size || in->bytes[section] / size > max)
        return bad(in, "section of a wrong size");
    *count = (uint32_t)(in->bytes[section] / size);
    return true;
}

/* One table of ends, of all tokens, and its bytes. *longest: of its entries. */
static bool check_ends(const struct opening *in, int ends_section, int bytes_section,
                       uint32_t *longest)
{
    const struct tokenizer_file *file = in->file;
    const unsigned char *ends = file->section[ends_section];
    if (in->bytes[ends_section] != 4ull * file->tokens)
        return bad(in, "token tables of different sizes");
    uint32_t last = 0, most = 0, wrong = 0;
    for (uint32_t i = 0; i < file->tokens; i++) {
        uint32_t end = le_u32(ends + 4 * (size_t)i);
        wrong |= end < last;
        most = end - last > most ? end - last : most;
        last = end;
    }
    *longest = most;
    if (wrong || most > TOKENIZER_TOKEN_BYTES_MAX)
        return bad(in, "token of a wrong length");
    return last == in->bytes[bytes_section] || bad(in, "token bytes of a wrong size");
}

static bool check_tokens(struct opening *in)
{
    struct tokenizer_file *file = in->file;
    uint32_t first_max = 0;
    if (file->tokens == 0 || file->tokens > TOKENIZER_TOKENS_MAX ||
        in->bytes[SECTION_TOKEN_FLAGS] != file->tokens)
        return bad(in, "token tables of different sizes");
    if (!check_ends(in, SECTION_TOKEN_ENDS, SECTION_TOKEN_BYTES, &file->token_bytes_max))
        return false;
    file->content_differs = in->bytes[SECTION_CONTENT_ENDS] != 0;
    file->decoder.first_differs = in->bytes[SECTION_FIRST_ENDS] != 0;
    file->content_bytes_max = file->token_bytes_max;
    if (file->content_differs &&
        !check_ends(in, SECTION_CONTENT_ENDS, SECTION_CONTENT_BYTES, &file->content_bytes_max))
        return false;
    if (file->decoder.first_differs &&
        !check_ends(in, SECTION_FIRST_ENDS, SECTION_FIRST_BYTES, &first_max))
        return false;
    if (first_max > file->token_bytes_max)
        file->token_bytes_max = first_max;
    if (in->bytes[SECTION_BYTE_IDS] != 256 * 4)
        return bad(in, "byte table of a wrong size");
    for (int b = 0; b < 256; b++) {
        uint32_t id = tokenizer_file_byte_id(file, (unsigned char)b);
        if (id >= file->tokens && id != TOKEN_NONE)
            return bad(in, "byte table: id outside the vocabulary");
    }
    file->has_cuts = in->bytes[SECTION_CUTS] != 0;
    return !file->has_cuts || in->bytes[SECTION_CUTS] == TOKENIZER_CUTS_BYTES ||
           bad(in, "table of cuts of a wrong size");
}

static bool check_tables(const struct opening *in)
{
    struct tokenizer_file *file = in->file;
    file->index_probes = le_u32(in->data + AT_INDEX_PROBES);
    file->merge_probes = le_u32(in->data + AT_MERGE_PROBES);
    if (file->index_probes > TOKENIZER_PROBES_MAX || file->merge_probes > TOKENIZER_PROBES_MAX ||
        !count_of(in, SECTION_INDEX, 4, 4ull * TOKENIZER_TOKENS_MAX, &file->index_slots) ||
        !count_of(in, SECTION_MERGES, MERGE_BYTES, 4ull * TOKENIZER_MERGES_MAX, &file->merge_slots))
        return bad(in, "hash table out of limits");
    return true; /* entries are checked when they are found: opening does not touch them */
}

static int compare_bytes(struct tokenizer_bytes a, struct tokenizer_bytes b)
{
    int order = memcmp(a.data, b.data, a.n < b.n ? a.n : b.n);
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

/* Text is cut and written with these bytes, and stays valid only if they are. */
static bool check_text(const struct opening *in, struct tokenizer_bytes bytes)
{
    for (size_t i = 0, n; i < bytes.n; i += n) {
        n = utf8_length(bytes.data + i, bytes.n - i);
        if (!n)
            return bad(in, "text that is not UTF-8");
    }
    return true;
}

static bool check_added(const struct opening *in)
{
    struct tokenizer_file *file = in->file;
    if (!count_of(in, SECTION_ADDED, ADDED_BYTES, TOKENIZER_TOKENS_MAX, &file->added_count))
        return false;
    file->added_raw = le_u32(in->data + AT_ADDED_RAW);
    if (in->bytes[SECTION_WORD] > PATTERN_BYTES_MAX)
        return bad(in, "pattern for words: too long");
    file->word_bytes = (uint32_t)in->bytes[SECTION_WORD];
    if (file->added_raw > file->added_count)
        return bad(in, "added tokens: wrong count");
    uint32_t last = 0;
    for (uint32_t i = 0; i < file->added_count; i++) {
        const unsigned char *entry = file->section[SECTION_ADDED] + ADDED_BYTES * (size_t)i;
        uint32_t end = le_u32(entry);
        if (end <= last || end - last > TOKENIZER_ADDED_BYTES_MAX ||
            end > in->bytes[SECTION_ADDED_BYTES])
            return bad(in, "added token of a wrong length");
        last = end;
        if (le_u32(entry + 8) & ADDED_SINGLE_WORD && !file->word_bytes)
            return bad(in, "added token: no pattern for words");
        if (le_u32(entry + 4) >= file->tokens || le_u32(entry + 8) > 15 || le_u32(entry + 12))
            return bad(in, "added token: wrong id or flags");
        if (!check_text(in, tokenizer_file_added(file, i).content))
            return false;
        if (i && i != file->added_raw &&
            compare_bytes(tokenizer_file_added(file, i - 1).content,
                          tokenizer_file_added(file, i).content) >= 0)
            return bad(in, "added tokens out of order");
    }
    return last == in->bytes[SECTION_ADDED_BYTES] || bad(in, "added tokens of a wrong size");
}

static bool step_known(uint32_t kind, uint32_t behaviour, uint32_t invert, uint32_t n)
{
    switch (kind) {
    case STEP_SPLIT:
        return behaviour <= SPLIT_CONTIGUOUS && invert <= 1 && n;
    case STEP_METASPACE:
        return behaviour <= PREPEND_FIRST && !invert && n && n <= 4;
    case STEP_PREFIX_SPACE:
    case STEP_LETTERS:
        return !behaviour && !invert && !n;
    default:
        return false;
    }
}

static bool check_steps(const struct opening *in)
{
    struct tokenizer_file *file = in->file;
    if (!count_of(in, SECTION_STEPS, STEP_BYTES, TOKENIZER_STEPS_MAX, &file->step_count))
        return false;
    uint32_t last = 0;
    for (uint32_t i = 0; i < file->step_count; i++) {
        const unsigned char *entry = file->section[SECTION_STEPS] + STEP_BYTES * (size_t)i;
        uint32_t end = le_u32(entry + 12);
        if (end < last || end > in->bytes[SECTION_STEP_BYTES])
            return bad(in, "pre-tokenizer pattern of a wrong length");
        if (!step_known(le_u32(entry), le_u32(entry + 4), le_u32(entry + 8), end - last))
            return bad(in, "unknown pre-tokenizer step");
        if (!check_text(in, tokenizer_file_step(file, i).pattern))
            return false;
        last = end;
    }
    return last == in->bytes[SECTION_STEP_BYTES] || bad(in, "patterns of a wrong size");
}

static bool check_normalizers(const struct opening *in)
{
    struct tokenizer_file *file = in->file;
    if (!count_of(in, SECTION_NORMALIZERS, NORMALIZER_BYTES, TOKENIZER_NORMALIZERS_MAX,
                  &file->normalizer_count))
        return false;
    uint32_t last = 0;
    for (uint32_t i = 0; i < file->normalizer_count; i++) {
        const unsigned char *entry =
            file->section[SECTION_NORMALIZERS] + NORMALIZER_BYTES * (size_t)i;
        uint32_t kind = le_u32(entry), pattern = le_u32(entry + 12), content = le_u32(entry + 16);
        if (kind < NORMALIZER_NFC || kind > NORMALIZER_BYTE_LEVEL || le_u32(entry + 4) > 63 ||
            le_u32(entry + 8) > 1 || le_u32(entry + 20))
            return bad(in, "unknown normalizer");
        if (pattern < last || content < pattern || content > in->bytes[SECTION_NORMALIZER_BYTES])
            return bad(in, "normalizer of a wrong length");
        struct tokenizer_normalizer step = tokenizer_file_normalizer(file, i);
        if (!check_text(in, step.pattern) || !check_text(in, step.content))
            return false;
        last = content;
    }
    return last == in->bytes[SECTION_NORMALIZER_BYTES] || bad(in, "normalizers of a wrong size");
}

static bool check_texts(const struct opening *in)
{
    struct tokenizer_file *file = in->file;
    if (!count_of(in, SECTION_TEXTS, TEXT_BYTES, TOKENIZER_TEXTS_MAX, &file->text_count))
        return false;
    uint32_t last = 0;
    for (uint32_t i = 0; i < file->text_count; i++) {
        const unsigned char *entry = file->section[SECTION_TEXTS] + TEXT_BYTES * (size_t)i;
        uint32_t kind = le_u32(entry), name = le_u32(entry + 4), value = le_u32(entry + 8);
        if (kind < TEXT_TEMPLATE || kind > TEXT_REFUSED || le_u32(entry + 12))
            return bad(in, "text of an unknown kind");
        if (name < last || value < name || value > in->bytes[SECTION_TEXT_BYTES])
            return bad(in, "text of a wrong length");
        last = value;
    }
    return last == in->bytes[SECTION_TEXT_BYTES] || bad(in, "texts of a wrong size");
}

static bool check_post(const struct opening *in)
{
    struct tokenizer_file *file = in->file;
    if (!count_of(in, SECTION_POST, 4, TOKENIZER_POST_MAX, &file->post_count))
        return false;
    file->post_before = le_u32(in->data + AT_POST_BEFORE);
    if (file->post_before > file->post_count)
        return bad(in, "post-processor: wrong count");
    for (uint32_t i = 0; i < file->post_count; i++)
        if (tokenizer_file_post(file, i) >= file->tokens)
            return bad(in, "post-processor: id outside the vocabulary");
    return true;
}

bool tokenizer_file_open(const void *data, uint64_t n, const char *name, struct tokenizer_file *out,
                         struct tp_error *err)
{
    struct tokenizer_file file = {0};
    struct opening in = {.data = data, .n = n, .name = name, .file = &file, .err = err};
    /* a section without bytes is never read, but its address is computed with */
    for (int i = 0; i < SECTION_COUNT; i++)
        file.section[i] = data;
    if (!check_header(&in) || !check_model(&in) || !check_sections(&in) || !check_tokens(&in) ||
        !check_tables(&in) || !check_added(&in) || !check_normalizers(&in) || !check_steps(&in) ||
        !check_post(&in) || !check_texts(&in))
        return false;
    *out = file;
    return true;
}

/* ---- lookups ---- */

uint32_t tokenizer_file_find(const struct tokenizer_file *file, const void *bytes, size_t n)
{
    if (file->index_slots == 0)
        return TOKEN_NONE;
    uint32_t slot = tokenizer_home(tokenizer_hash_bytes(bytes, n), file->index_slots);
    for (uint32_t probe = 0; probe <= file->index_probes; probe++) {
        uint32_t entry = le_u32(file->section[SECTION_INDEX] + 4 * (size_t)slot);
        if (entry == 0 || entry > file->tokens)
            return TOKEN_NONE;
        struct tokenizer_bytes token = tokenizer_file_content(file, entry - 1);
        if (token.n == n && memcmp(token.data, bytes, n) == 0)
            return entry - 1;
        slot = slot + 1 == file->index_slots ? 0 : slot + 1;
    }
    return TOKEN_NONE;
}

bool tokenizer_file_merge(const struct tokenizer_file *file, uint32_t left, uint32_t right,
                          uint32_t *rank, uint32_t *id)
{
    if (file->merge_slots == 0)
        return false;
    uint32_t slot = tokenizer_home(tokenizer_hash_pair(left, right), file->merge_slots);
    for (uint32_t probe = 0; probe <= file->merge_probes; probe++) {
        const unsigned char *m = file->section[SECTION_MERGES] + MERGE_BYTES * (size_t)slot;
        uint32_t found = le_u32(m);
        if (found == TOKEN_NONE)
            return false;
        if (found == left && le_u32(m + 4) == right) {
            *rank = le_u32(m + 8);
            *id = le_u32(m + 12);
            return *rank != TOKEN_NONE && *id < file->tokens;
        }
        slot = slot + 1 == file->merge_slots ? 0 : slot + 1;
    }
    return false;
}

bool tokenizer_file_pair(const struct tokenizer_file *file, uint32_t slot,
                         struct tokenizer_pair *pair)
{
    const unsigned char *m = file->section[SECTION_MERGES] + MERGE_BYTES * (size_t)slot;
    *pair = (struct tokenizer_pair){le_u32(m), le_u32(m + 4), le_u32(m + 8), le_u32(m + 12)};
    return pair->left < file->tokens && pair->right < file->tokens && pair->rank != TOKEN_NONE &&
           pair->id < file->tokens;
}

struct tokenizer_added tokenizer_file_added(const struct tokenizer_file *file, uint32_t i)
{
    const unsigned char *entry = file->section[SECTION_ADDED] + ADDED_BYTES * (size_t)i;
    uint32_t begin = i ? le_u32(entry - ADDED_BYTES) : 0;
    return (struct tokenizer_added){
        .content = {file->section[SECTION_ADDED_BYTES] + begin, le_u32(entry) - begin},
        .id = le_u32(entry + 4),
        .flags = le_u32(entry + 8),
    };
}

/* Each of the two groups of added tokens is in order. */
uint32_t tokenizer_file_named(const struct tokenizer_file *file, const void *bytes, size_t n)
{
    for (int group = 0; group < 2; group++) {
        uint32_t low = group ? file->added_raw : 0;
        uint32_t high = group ? file->added_count : file->added_raw;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            struct tokenizer_added a = tokenizer_file_added(file, middle);
            int order = memcmp(a.content.data, bytes, a.content.n < n ? a.content.n : n);
            if (order == 0 && a.content.n == n)
                return a.id;
            if (order < 0 || (order == 0 && a.content.n < n))
                low = middle + 1;
            else
                high = middle;
        }
    }
    return tokenizer_file_find(file, bytes, n);
}

struct tokenizer_step tokenizer_file_step(const struct tokenizer_file *file, uint32_t i)
{
    const unsigned char *entry = file->section[SECTION_STEPS] + STEP_BYTES * (size_t)i;
    uint32_t begin = i ? le_u32(entry - 4) : 0;
    return (struct tokenizer_step){
        .kind = (enum step_kind)le_u32(entry),
        .behaviour = le_u32(entry + 4),
        .invert = le_u32(entry + 8) != 0,
        .pattern = {file->section[SECTION_STEP_BYTES] + begin, le_u32(entry + 12) - begin},
    };
}

struct tokenizer_normalizer tokenizer_file_normalizer(const struct tokenizer_file *file, uint32_t i)
{
    const unsigned char *entry = file->section[SECTION_NORMALIZERS] + NORMALIZER_BYTES * (size_t)i;
    const unsigned char *bytes = file->section[SECTION_NORMALIZER_BYTES];
    uint32_t begin = i ? le_u32(entry - 8) : 0, pattern = le_u32(entry + 12);
    return (struct tokenizer_normalizer){
        .kind = le_u32(entry),
        .flags = le_u32(entry + 4),
        .regex = le_u32(entry + 8) != 0,
        .pattern = {bytes + begin, pattern - begin},
        .content = {bytes + pattern, le_u32(entry + 16) - pattern},
    };
}

struct tokenizer_text tokenizer_file_text(const struct tokenizer_file *file, uint32_t i)
{
    const unsigned char *entry = file->section[SECTION_TEXTS] + TEXT_BYTES * (size_t)i;
    const unsigned char *bytes = file->section[SECTION_TEXT_BYTES];
    uint32_t begin = i ? le_u32(entry - 8) : 0, name = le_u32(entry + 4);
    return (struct tokenizer_text){
        .kind = le_u32(entry),
        .name = {bytes + begin, name - begin},
        .value = {bytes + name, le_u32(entry + 8) - name},
    };
}

bool tokenizer_file_find_text(const struct tokenizer_file *file, enum tokenizer_text_kind kind,
                              const char *name, struct tokenizer_bytes *value)
{
    for (uint32_t i = 0; i < file->text_count; i++) {
        struct tokenizer_text text = tokenizer_file_text(file, i);
        if (text.kind == kind && text.name.n == strlen(name) &&
            memcmp(text.name.data, name, text.name.n) == 0) {
            *value = text.value;
            return true;
        }
    }
    return false;
}
