/* clang-format off */
#include "stored.h"

#include "checked.h"
#include "error.h"
#include "le.h"
#include "stored_codes.h"

#define DENSE(id_, name_, bits_, zstd)                                                             \
    [id_] = {.id = id_,                                                                            \
             .name = name_,                                                                        \
             .bits = bits_,                                                                        \
             .zstd_ratio = zstd,                                                                   \
             .encode = encode_dense,                                                               \
             .decode = decode_dense}
#define ROW_SCALE(id_, name_, zstd, code)                                                          \
    [id_] = {.id = id_, .name = name_, .bits = 8, .row_scale = true, .zstd_ratio = zstd,           \
             .constants = constants_##code, .encode = encode_##code, .decode = decode_##code}
#define GROUPS(id_, group_, suffix, constant, offset_, zstd)                                       \
    [id_] = {.id = id_, .name = "int4-g" #group_ suffix, .bits = 4, .group = group_,               \
             .constant_bits = constant, .offset = offset_, .zstd_ratio = zstd,                     \
             .constants = constants_int4, .encode = encode_int4, .decode = decode_int4}

static const struct stored rows[STORED_COUNT] = {
    DENSE(STORED_F32, "f32", 32, 0.84),
    DENSE(STORED_F16, "f16", 16, 0.84),
    DENSE(STORED_BF16, "bf16", 16, 0.68),
    ROW_SCALE(STORED_INT8, "int8", 0.90, int8),
    ROW_SCALE(STORED_FP8, "fp8", 0.82, fp8),
    GROUPS(STORED_INT4_G32, 32, "", 16, OFFSET_NONE, 0.94),
    GROUPS(STORED_INT4_G64, 64, "", 16, OFFSET_NONE, 0.92),
    GROUPS(STORED_INT4_G128, 128, "", 16, OFFSET_NONE, 0.89),
    GROUPS(STORED_INT4_G32_ZERO, 32, "-zero", 32, OFFSET_ZERO, 0.92),
    GROUPS(STORED_INT4_G64_ZERO, 64, "-zero", 32, OFFSET_ZERO, 0.92),
    GROUPS(STORED_INT4_G128_ZERO, 128, "-zero", 32, OFFSET_ZERO, 0.90),
    GROUPS(STORED_INT4_G32_MIN, 32, "-min", 32, OFFSET_MINIMUM, 0.94),
    GROUPS(STORED_INT4_G64_MIN, 64, "-min", 32, OFFSET_MINIMUM, 0.93),
    GROUPS(STORED_INT4_G128_MIN, 128, "-min", 32, OFFSET_MINIMUM, 0.90),
};
/* clang-format on */

const struct stored *stored_of(unsigned id)
{
    return id > STORED_NONE && id < STORED_COUNT ? &rows[id] : NULL;
}

const struct stored *stored_by_name(const char *name)
{
    for (unsigned id = STORED_NONE + 1; id < STORED_COUNT; id++)
        if (strcmp(rows[id].name, name) == 0)
            return &rows[id];
    return NULL;
}

const struct stored *stored_by_options(const char *quant, uint64_t group, const char *offset)
{
    static const char *const offsets[] = {
        [OFFSET_NONE] = "none", [OFFSET_ZERO] = "zero", [OFFSET_MINIMUM] = "min"};
    const struct stored *found = NULL;
    size_t n = strlen(quant);
    for (unsigned id = STORED_BF16 + 1; id < STORED_COUNT; id++) {
        const struct stored *s = &rows[id];
        bool family = strcspn(s->name, "-") == n && strncmp(s->name, quant, n) == 0;
        if (family && (group == 0 || group == s->group) && strcmp(offset, offsets[s->offset]) == 0)
            found = s; /* the last: the largest group */
    }
    return found;
}

/* ---- geometry ---- */

/* Where the piece that begins at column `at` ends. */
static uint64_t piece_end(const struct stored *s, uint64_t at, uint64_t leaf_end)
{
    uint64_t end = s->group ? at / s->group * s->group + s->group : leaf_end;
    return end < leaf_end ? end : leaf_end;
}

bool stored_next_piece(const struct stored *s, struct range leaf, struct piece *piece)
{
    bool first = piece->cols.end == 0;
    uint64_t at = first ? leaf.begin : piece->cols.end,
             share = s->constant_bits ? 32 / s->constant_bits : 0;
    if (at >= leaf.end)
        return false;
    struct piece next = {.cols = {at, piece_end(s, at, leaf.end)}};
    if (!first) {
        next.index = piece->index + 1;
        next.k = piece->k + align_up(range_count(piece->cols), BLOCK_COLS);
    }
    next.word = next.k / BLOCK_COLS * s->bits;
    if (share) {
        next.constants = next.index % share ? piece->constants : next.word + next.index / share;
        next.word += next.index / share + 1;
    }
    *piece = next;
    return true;
}

static unsigned constants_shift(const struct stored *s, const struct piece *piece)
{
    return s->constant_bits == 16 && piece->index % 2 == 0 ? 16 : 0;
}

uint32_t stored_get_constants(const struct stored *s, const unsigned char *leaf,
                              const struct piece *piece)
{
    uint32_t word =
        s->constant_bits ? le_u32(leaf + 4 * piece->constants) << constants_shift(s, piece) : 0;
    return s->constant_bits == 16 ? word & 0xffff0000 : word;
}

void stored_put_constants(const struct stored *s, unsigned char *leaf, const struct piece *piece,
                          uint32_t constants)
{
    unsigned char *at = leaf + 4 * piece->constants;
    bool joins = s->constant_bits == 16 && piece->index % 2; /* the word of the piece before */
    if (s->constant_bits)
        le_put_u32(at, (joins ? le_u32(at) : 0) | constants >> constants_shift(s, piece));
}

struct pieces stored_pieces(const struct stored *s, struct range leaf)
{
    uint64_t end = piece_end(s, leaf.begin, leaf.end);
    uint32_t lead = (uint32_t)div_ceil(end - leaf.begin, BLOCK_COLS);
    return (struct pieces){lead + (uint32_t)div_ceil(leaf.end - end, BLOCK_COLS), lead,
                           s->group / BLOCK_COLS};
}

uint64_t stored_words(const struct stored *s, struct range leaf)
{
    struct pieces p = stored_pieces(s, leaf);
    uint64_t count = p.blocks && s->group ? 1 + div_ceil(p.blocks - p.lead, p.group) : 0;
    return (uint64_t)p.blocks * s->bits + div_ceil(count * s->constant_bits, 32);
}
