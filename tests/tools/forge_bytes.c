/* Changes of bytes: rank files and the files that travel along; and which change it is. */
#include "forge_change.h"

#include "le.h"
#include "mem.h"
#include "rank_plan.h"
#include "shard.h"
#include "tokenizer_file.h"
#include <stdio.h>
#include <zstd.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))

static struct forged_file *some_rank(struct forged *f)
{
    uint64_t r = forge_below(f, f->n_ranks);
    forge_say(f, " rank %d", (int)r);
    return &f->ranks[r];
}

static uint64_t get(const unsigned char *p, int bytes)
{
    return bytes == 8 ? le_u64(p) : bytes == 4 ? le_u32(p) : le_u16(p);
}

static void put(unsigned char *p, int bytes, uint64_t value)
{
    memcpy(p, &value, (size_t)bytes);
}

static void change_number(struct forged *f, struct forged_file *file, uint64_t at, int bytes)
{
    uint64_t value = forge_number(f, get(file->bytes + at, bytes));
    put(file->bytes + at, bytes, value);
    forge_say(f, " at %llu=%llu", (unsigned long long)at, (unsigned long long)value);
}

void forge_header(struct forged *f)
{
    static const struct {
        uint16_t at;
        uint8_t bytes;
    } fields[] = {{0, 4},   {8, 4},   {12, 4},  {16, 8},  {32, 4},  {36, 4},  {40, 4},
                  {44, 4},  {48, 8},  {56, 8},  {64, 8},  {80, 8},  {88, 8},  {96, 8},
                  {104, 8}, {112, 4}, {116, 4}, {120, 8}, {128, 4}, {4076, 4}};
    struct forged_file *file = some_rank(f);
    size_t i = forge_below(f, COUNT(fields));
    change_number(f, file, fields[i].at, fields[i].bytes);
}

static uint64_t chunks_at(const struct forged_file *file)
{
    return SHARD_HEADER_BYTES + le_u32(file->bytes + 40) * (uint64_t)SHARD_TENSOR_ENTRY;
}

/* Anywhere in the table, or where a chunk says that it lies. */
void forge_table(struct forged *f)
{
    struct forged_file *file = some_rank(f);
    uint64_t table = le_u64(file->bytes + 56), chunks = le_u32(file->bytes + 44);
    for (uint64_t n = 1 + forge_below(f, 2); n > 0; n--) {
        uint64_t at = SHARD_HEADER_BYTES + forge_below(f, table / 8) * 8;
        if (chunks && forge_chance(f, 50))
            at = chunks_at(file) + forge_below(f, chunks) * SHARD_CHUNK_ENTRY + 32 +
                 forge_below(f, 3) * 8;
        change_number(f, file, at, forge_chance(f, 50) ? 4 : 8);
    }
}

void forge_data(struct forged *f)
{
    static const unsigned char values[] = {0, 0x7f, 0x80, 0xff};
    struct forged_file *file = some_rank(f);
    uint64_t data = le_u64(file->bytes + 80);
    uint64_t count = forge_chance(f, 50) ? 1 : 1 + forge_below(f, 4096);
    for (uint64_t n = count; n > 0 && data < file->n; n--)
        file->bytes[data + forge_below(f, file->n - data)] =
            forge_chance(f, 80) ? values[forge_below(f, 4)] : (unsigned char)forge_next(f);
    forge_say(f, " %llu bytes", (unsigned long long)count);
}

static void resize(struct forged_file *file, uint64_t n)
{
    unsigned char *bytes = mem_alloc(n + 1, NULL);
    memcpy(bytes, file->bytes, n < file->n ? n : file->n);
    mem_free(file->bytes);
    file->bytes = bytes;
    file->n = n;
}

void forge_size(struct forged *f)
{
    struct forged_file *file = some_rank(f);
    uint64_t n = file->n;
    const uint64_t sizes[] = {n - 1, n + 1,    n / 2, 4096,     4095, 0,
                              1,     n + 4096, 8192,  n - 4096, n * 2};
    resize(file, sizes[forge_below(f, COUNT(sizes))] & 0xffffff);
    if (file->n >= SHARD_HEADER_BYTES && forge_chance(f, 50))
        le_put_u64(file->bytes + 104, file->n);
    if (file->n >= SHARD_HEADER_BYTES && forge_chance(f, 30))
        le_put_u64(file->bytes + 88, file->n - le_u64(file->bytes + 80));
    forge_say(f, " of %llu bytes", (unsigned long long)file->n);
}

/* ---- frames ---- */

enum { FRAME_MAX = 1 << 20 };

static size_t compress(unsigned char *to, const unsigned char *from, size_t n, struct forged *f)
{
    ZSTD_CCtx *c = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, (int)forge_below(f, 12) - 3);
    ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, forge_chance(f, 50));
    ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, forge_chance(f, 50));
    if (forge_chance(f, 20))
        ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 10 + (int)forge_below(f, 17));
    size_t bytes = ZSTD_compress2(c, to, FRAME_MAX, from, n);
    ZSTD_freeCCtx(c);
    return ZSTD_isError(bytes) ? 0 : bytes;
}

/* Other frames of the same, or nearly the same, bytes; or none at all. */
static size_t make_frames(struct forged *f, unsigned char *to, const unsigned char *old, size_t n)
{
    static unsigned char raw[FRAME_MAX];
    size_t bytes = ZSTD_decompress(raw, sizeof raw - 16, old, n), half;
    if (ZSTD_isError(bytes))
        bytes = 0;
    memset(raw + bytes, 0, 16);
    unsigned how = (unsigned)forge_below(f, 8);
    forge_say(f, " frame of kind %u", how);
    switch (how) {
    case 0:
        return compress(to, raw, bytes, f);
    case 1: /* two */
        half = compress(to, raw, bytes / 2, f);
        return half + compress(to + half, raw + bytes / 2, bytes - bytes / 2, f);
    case 2: /* a skippable one before it */
        memcpy(to, "\x50\x2a\x4d\x18\x04\0\0\0abcd", 12);
        return 12 + compress(to + 12, raw, bytes, f);
    case 3:
        return compress(to, raw, bytes + 1 + forge_below(f, 15), f);
    case 4:
        return compress(to, raw, bytes ? bytes - 1 : 0, f);
    case 5: /* changed somewhere */
        memcpy(to, old, n);
        to[forge_below(f, n)] ^= (unsigned char)(1 << forge_below(f, 8));
        return n;
    case 6: /* cut, or longer */
        memcpy(to, old, n);
        memset(to + n, 0, 16);
        return 1 + forge_below(f, n + 15);
    default:
        for (size_t i = 0; i < n; i++)
            to[i] = (unsigned char)forge_next(f);
        return n;
    }
}

void forge_frame(struct forged *f)
{
    static unsigned char frames[2 * FRAME_MAX];
    struct forged_file *file = some_rank(f);
    uint64_t data = le_u64(file->bytes + 80), count = le_u32(file->bytes + 44);
    if (le_u32(file->bytes + 112) != COMPRESS_ZSTD || count == 0) {
        forge_data(f);
        return;
    }
    uint64_t at = chunks_at(file) + forge_below(f, count) * SHARD_CHUNK_ENTRY;
    uint64_t begin = data + le_u64(file->bytes + at + 32), old = le_u64(file->bytes + at + 40);
    uint64_t last = chunks_at(file) + (count - 1) * SHARD_CHUNK_ENTRY;
    uint64_t end = data + le_u64(file->bytes + last + 32) + le_u64(file->bytes + last + 40);
    uint64_t n = make_frames(f, frames, file->bytes + begin, old);
    uint64_t size = (end - old + n + SHARD_FILE_ALIGN - 1) / SHARD_FILE_ALIGN * SHARD_FILE_ALIGN;
    unsigned char *bytes = mem_alloc(size, NULL);
    memcpy(bytes, file->bytes, begin);
    memcpy(bytes + begin, frames, n);
    memcpy(bytes + begin + n, file->bytes + begin + old, end - begin - old);
    mem_free(file->bytes);
    file->bytes = bytes;
    file->n = size;
    le_put_u64(bytes + at + 40, n);
    for (uint64_t c = at + SHARD_CHUNK_ENTRY; c <= last; c += SHARD_CHUNK_ENTRY)
        le_put_u64(bytes + c + 32, le_u64(bytes + c + 32) - old + n);
    le_put_u64(bytes + 88, size - data);
    le_put_u64(bytes + 104, size);
}

/* ---- files that travel along ---- */

/* A number in a text becomes another, or a byte does. */
static void change_text(struct forged *f, struct forged_file *file)
{
    static const char digits[] = "0123456789-.e\"[]{},:nt\\ ";
    uint64_t at = forge_below(f, file->n);
    for (uint64_t i = 0; i < file->n && forge_chance(f, 99); i++) {
        at = (at + 1) % file->n;
        if (file->bytes[at] >= '0' && file->bytes[at] <= '9')
            break;
    }
    file->bytes[at] = (unsigned char)digits[forge_below(f, sizeof digits - 1)];
    forge_say(f, " at %llu '%c'", (unsigned long long)at, file->bytes[at]);
}

void forge_file(struct forged *f)
{
    struct forged_file *file = &f->files[forge_below(f, f->n_files ? f->n_files : 1)];
    if (f->n_files == 0 || file->n == 0)
        return;
    forge_say(f, " %s", file->name);
    bool binary = strstr(file->name, ".tpt");
    if (forge_chance(f, 10)) {
        resize(file, forge_below(f, file->n));
        forge_say(f, " of %llu bytes", (unsigned long long)file->n);
    } else {
        for (uint64_t n = 1 + forge_below(f, 3); n > 0; n--)
            if (binary && file->n >= 512)
                change_number(f, file,
                              forge_chance(f, 50) ? 40 + forge_below(f, 118) * 4
                                                  : forge_below(f, file->n / 4) * 4,
                              4);
            else
                change_text(f, file);
    }
    if (binary && file->n >= TOKENIZER_HEADER_BYTES && forge_chance(f, 90))
        tokenizer_file_seal(file->bytes, file->n);
}

/* Those that need a bundle that is whole come last. */
static const struct {
    const char *name;
    void (*change)(struct forged *f);
    unsigned share;
} kinds[] = {
    {"manifest", forge_manifest, 2}, {"model", forge_model, 2}, {"numbers", forge_numbers, 3},
    {"lists", forge_lists, 2},       {"file", forge_file, 4},   {"structure", forge_structure, 1},
    {"header", forge_header, 2},     {"table", forge_table, 3}, {"data", forge_data, 3},
    {"size", forge_size, 1},         {"frame", forge_frame, 3}, {"remake", forge_remake, 4},
};
enum { LOOSE = 5 }; /* so many need none */

static void change_by(struct forged *f, size_t count)
{
    unsigned sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += kinds[i].share;
    uint64_t at = forge_below(f, sum);
    size_t i = 0;
    for (; at >= kinds[i].share; i++)
        at -= kinds[i].share;
    f->kind = kinds[i].name;
    kinds[i].change(f);
}

void forge_change(struct forged *f)
{
    change_by(f, COUNT(kinds));
    if (forge_chance(f, 15))
        change_by(f, LOOSE);
}
