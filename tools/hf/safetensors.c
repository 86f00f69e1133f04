#include "safetensors.h"
#include "checked.h"
#include "file_kind.h"
#include "json_pull.h"
#include "le.h"
#include "sort_index.h"

#include <stdio.h>
#include <string.h>

typedef unsigned long long ull;

/* ---- dtypes and names ---- */

static const struct {
    const char *name;
    uint64_t bits;
} dtypes[ST_DTYPE_COUNT] = {
#define X(name, bits) {#name, bits},
    ST_DTYPE_TABLE(X)
#undef X
};

const char *st_dtype_name(enum st_dtype dtype)
{
    return dtypes[dtype].name;
}

uint64_t st_dtype_bits(enum st_dtype dtype)
{
    return dtypes[dtype].bits;
}

int st_name_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order ? order : (a_len > b_len) - (a_len < b_len);
}

/* ---- the header's entries ---- */

struct header {
    struct json_pull in;
    struct safetensors *st;
    struct st_tensor *tensor; /* the entry being read */
    size_t cap;               /* of st->tensors */
    bool metadata_seen;
    struct findings *findings;
    uint32_t unknown_fields;
    char first_unknown[256]; /* tensor and field */
};

__attribute__((format(printf, 3, 4))) static bool
fail_entry(const struct header *h, enum tp_code code, const char *fmt, ...)
{
    char shown[TP_NAME_BUF], what[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return tp_fail(h->in.err, code, "%s: tensor \"%s\": %s", h->in.file,
                   tp_name_cut(shown, h->tensor->name, h->tensor->name_len), what);
}

/* The next value is not what the field needs. It is read all the same: if it is not even JSON, or
 * too deep, that is the error. */
static bool fail_value(struct header *h, enum tp_code code, const char *field, const char *expected)
{
    struct json_pull *in = &h->in;
    const char *kind = pull_kind(in);
    uint64_t begin = in->at;
    if (!pull_skip(in))
        return false;
    int shown = in->at - begin < 40 ? (int)(in->at - begin) : 40;
    return fail_entry(h, code, "%s: %s expected, %s found at offset %llu: %.*s", field, expected,
                      kind, (ull)(in->base + begin), shown, in->text + begin);
}

static bool read_dtype(struct header *h)
{
    char name[32];
    size_t len;
    if (pull_peek(&h->in) != '"')
        return fail_value(h, TP_E_ST_DTYPE, "dtype", "a string");
    if (!pull_string(&h->in, name, sizeof name, &len))
        return false;
    for (int i = 0; i < ST_DTYPE_COUNT; i++)
        if (len == strlen(dtypes[i].name) && memcmp(name, dtypes[i].name, len) == 0) {
            h->tensor->dtype = (enum st_dtype)i;
            return true;
        }
    return fail_entry(h, TP_E_ST_DTYPE, "dtype \"%s\" is not known", name);
}

/* An array of at most `most` integers, the value of `key`. */
static bool read_integers(struct header *h, const char *key, enum tp_code code, uint64_t *values,
                          uint32_t most, uint32_t *count, enum tp_code too_many)
{
    bool more;
    if (pull_peek(&h->in) != '[')
        return fail_value(h, code, key, "an array");
    if (!pull_open(&h->in, '['))
        return false;
    for (*count = 0;; ++*count) {
        if (!pull_next(&h->in, ']', *count == 0, &more))
            return false;
        if (!more)
            return true;
        if (*count == most)
            return fail_entry(h, too_many, "%s has more than %u numbers", key, most);
        if (!pull_u64(&h->in, &values[*count]))
            return fail_value(h, code, key, "an integer of at most 64 bits");
    }
}

static bool read_shape(struct header *h)
{
    struct st_tensor *t = h->tensor;
    return read_integers(h, "shape", TP_E_ST_SHAPE, t->shape, ST_RANK_MAX, &t->rank, TP_E_ST_RANK);
}

/* Relative to the data, as in the header; check_layout makes them absolute. */
static bool read_offsets(struct header *h)
{
    uint64_t values[2];
    uint32_t count;
    if (!read_integers(h, "data_offsets", TP_E_ST_OFFSETS, values, 2, &count, TP_E_ST_OFFSETS))
        return false;
    if (count != 2)
        return fail_entry(h, TP_E_ST_OFFSETS, "data_offsets has %u numbers, 2 expected", count);
    if (values[0] > values[1])
        return fail_entry(h, TP_E_ST_OFFSETS, "data_offsets begin at %llu after their end %llu",
                          (ull)values[0], (ull)values[1]);
    h->tensor->begin = values[0];
    h->tensor->end = values[1];
    return true;
}

/* shape x dtype is what the offsets say. */
static bool check_entry_size(const struct header *h)
{
    const struct st_tensor *t = h->tensor;
    uint64_t bits = 1, n = t->end - t->begin;
    for (uint32_t i = 0; i < t->rank; i++)
        if (!tp_mul(bits, t->shape[i], &bits))
            return fail_entry(h, TP_E_ST_OVERFLOW, "product of the shape is 2^64 or more");
    if (!tp_mul(bits, st_dtype_bits(t->dtype), &bits))
        return fail_entry(h, TP_E_ST_OVERFLOW, "shape x %s is 2^64 bits or more",
                          st_dtype_name(t->dtype));
    if (bits % 8)
        return fail_entry(h, TP_E_ST_SUBBYTE, "%llu bits of %s are not whole bytes", (ull)bits,
                          st_dtype_name(t->dtype));
    if (bits / 8 != n)
        return fail_entry(h, TP_E_ST_SIZE, "shape x %s is %llu bytes, data_offsets hold %llu",
                          st_dtype_name(t->dtype), (ull)(bits / 8), (ull)n);
    return true;
}

static bool read_entry(struct header *h)
{
    static const struct {
        const char *name;
        bool (*read)(struct header *);
    } fields[] = {{"dtype", read_dtype}, {"shape", read_shape}, {"data_offsets", read_offsets}};
    enum { FIELDS = sizeof fields / sizeof *fields };
    unsigned seen = 0;
    bool more;
    if (pull_peek(&h->in) != '{')
        return fail_value(h, TP_E_ST_FIELD, "entry", "an object");
    if (!pull_open(&h->in, '{'))
        return false;
    for (bool first = true;; first = false) {
        char key[64], shown[TP_NAME_BUF];
        size_t len, i = 0;
        if (!pull_next(&h->in, '}', first, &more))
            return false;
        if (!more)
            break;
        pull_peek(&h->in);
        if (!pull_key(&h->in, key, sizeof key, &len))
            return false;
        while (i < FIELDS && (len != strlen(fields[i].name) || memcmp(key, fields[i].name, len)))
            i++;
        if (i == FIELDS) {
            if (h->unknown_fields++ == 0)
                snprintf(h->first_unknown, sizeof h->first_unknown,
                         "tensor \"%s\": unknown field \"%.40s\"",
                         tp_name_cut(shown, h->tensor->name, h->tensor->name_len), key);
            if (!pull_skip(&h->in))
                return false;
            continue;
        }
        if (seen >> i & 1)
            return fail_entry(h, TP_E_ST_DUPLICATE, "field %s stands twice", fields[i].name);
        seen |= 1u << i;
        if (!fields[i].read(h))
            return false;
    }
    for (size_t i = 0; i < FIELDS; i++)
        if (!(seen >> i & 1))
            return fail_entry(h, TP_E_ST_FIELD, "field %s is missing", fields[i].name);
    return check_entry_size(h);
}

/* An object of strings; none of them is kept. */
static bool read_metadata(struct header *h)
{
    struct json_pull *in = &h->in;
    bool more;
    if (h->metadata_seen)
        return tp_fail(in->err, TP_E_ST_DUPLICATE, "%s: __metadata__ stands twice", in->file);
    h->metadata_seen = true;
    const char *kind = pull_kind(in);
    if (pull_peek(in) != '{')
        return pull_skip(in) &&
               tp_fail(in->err, TP_E_ST_METADATA, "%s: __metadata__: an object expected, %s found",
                       in->file, kind);
    if (!pull_open(in, '{'))
        return false;
    for (bool first = true;; first = false) {
        char key[64], shown[TP_NAME_BUF];
        size_t len;
        if (!pull_next(in, '}', first, &more))
            return false;
        if (!more)
            return true;
        if (!pull_key(in, key, sizeof key, &len))
            return false;
        kind = pull_kind(in);
        bool is_string = pull_peek(in) == '"';
        if (!pull_skip(in))
            return false;
        if (!is_string)
            return tp_fail(in->err, TP_E_ST_METADATA,
                           "%s: __metadata__: \"%s\": a string expected, %s found", in->file,
                           tp_name_cut(shown, key, len < sizeof key ? len : sizeof key - 1), kind);
    }
}

static bool read_tensor(struct header *h, const char *name, size_t len)
{
    struct safetensors *st = h->st;
    struct tp_error *err = h->in.err;
    struct st_tensor named = {.name = name, .name_len = (uint32_t)len};
    h->tensor = &named;
    if (len == 0 || len > ST_NAME_MAX)
        return fail_entry(h, TP_E_ST_NAME, "name has %zu bytes, 1 to %d expected", len,
                          ST_NAME_MAX);
    if (memchr(name, '\0', len))
        return fail_entry(h, TP_E_ST_NAME, "name holds a NUL");
    if (st->count == ST_TENSORS_MAX)
        return tp_fail(err, TP_E_ST_COUNT, "%s: more than %u tensors", h->in.file, ST_TENSORS_MAX);
    if (!mem_grow((void **)&st->tensors, &h->cap, st->count + 1, sizeof *st->tensors, err))
        return false;
    named.name = mem_arena_copy(&st->arena, name, len, err);
    if (!named.name)
        return false;
    st->tensors[st->count] = named;
    h->tensor = &st->tensors[st->count++];
    return read_entry(h);
}

static bool read_header(struct header *h)
{
    struct json_pull *in = &h->in;
    char name[ST_NAME_MAX + 1];
    size_t len;
    bool more;
    if (!pull_begin(in))
        return false;
    int c = pull_peek(in);
    if (c == '[' && !pull_skip(in)) /* too deep, or not JSON: says more than "not an object" */
        return false;
    if (c == '[')
        return tp_fail(in->err, TP_E_ST_JSON,
                       "%s: header is an array at offset %llu, an object "
                       "expected",
                       in->file, (ull)in->base);
    if (!pull_open(in, '{'))
        return false;
    for (bool first = true;; first = false) {
        if (!pull_next(in, '}', first, &more))
            return false;
        if (!more)
            return pull_end(in);
        if (!pull_key(in, name, sizeof name, &len))
            return false;
        bool metadata = len == strlen("__metadata__") && memcmp(name, "__metadata__", len) == 0;
        if (!(metadata ? read_metadata(h) : read_tensor(h, name, len)))
            return false;
    }
}

static bool warn_of_fields(const struct header *h)
{
    uint32_t n = h->unknown_fields;
    return n == 0 || finding_warn(h->findings, TP_E_ST_FIELD, h->in.err, "%s: %s: ignored%s",
                                  h->in.file, h->first_unknown, n > 1 ? ", as others are" : "");
}

/* ---- the table ---- */

static bool name_before(const void *items, uint32_t a, uint32_t b)
{
    const struct st_tensor *t = items;
    return st_name_compare(t[a].name, t[a].name_len, t[b].name, t[b].name_len) < 0;
}

static bool begin_before(const void *items, uint32_t a, uint32_t b)
{
    const struct st_tensor *t = items;
    return t[a].begin != t[b].begin ? t[a].begin < t[b].begin : t[a].end < t[b].end;
}

static bool check_names(struct header *h, uint32_t *scratch)
{
    const struct safetensors *st = h->st;
    sort_index(st->by_name, scratch, st->count, st->tensors, name_before);
    for (uint32_t i = 1; i < st->count; i++) {
        h->tensor = &st->tensors[st->by_name[i]];
        if (!name_before(st->tensors, st->by_name[i - 1], st->by_name[i]))
            return fail_entry(h, TP_E_ST_DUPLICATE, "stands twice in the header");
    }
    return true;
}

/* The last tensor ends inside the file. */
static bool check_end(struct header *h, uint64_t data_bytes)
{
    const struct safetensors *st = h->st;
    uint64_t expected, data_begin = st->data_begin, last = 0;
    for (uint32_t i = 1; i < st->count; i++)
        if (st->tensors[i].end > st->tensors[last].end)
            last = i;
    if (st->count == 0 || st->tensors[last].end <= data_bytes)
        return true;
    h->tensor = &st->tensors[last];
    if (!tp_add(data_begin, h->tensor->end, &expected))
        return fail_entry(h, TP_E_ST_OFFSETS, "data_offsets end at %llu, beyond any file",
                          (ull)h->tensor->end);
    return fail_entry(h, TP_E_ST_CUT, "expected %llu bytes, found %llu: incomplete download?",
                      (ull)expected, (ull)(data_begin + data_bytes));
}

/* The tensors cover the data exactly, in whatever order; offsets become absolute. order and scratch
 * have st->count entries. */
static bool check_layout(struct header *h, uint64_t data_bytes, uint32_t *order, uint32_t *scratch)
{
    struct safetensors *st = h->st;
    if (!check_end(h, data_bytes))
        return false;
    sort_index(order, scratch, st->count, st->tensors, begin_before);
    uint64_t at = 0;
    for (uint32_t i = 0; i < st->count; i++) {
        struct st_tensor *t = &st->tensors[order[i]];
        h->tensor = t;
        if (t->begin < at) {
            char shown[TP_NAME_BUF];
            const struct st_tensor *before = &st->tensors[order[i - 1]];
            return fail_entry(h, TP_E_ST_OVERLAP, "data_offsets %llu to %llu overlap \"%s\"",
                              (ull)t->begin, (ull)t->end,
                              tp_name_cut(shown, before->name, before->name_len));
        }
        if (t->begin > at)
            return fail_entry(h, TP_E_ST_HOLE,
                              "data_offsets %llu to %llu before it belong to no "
                              "tensor",
                              (ull)at, (ull)t->begin);
        at = t->end;
        t->begin += st->data_begin;
        t->end += st->data_begin;
    }
    if (at != data_bytes)
        return tp_fail(h->in.err, TP_E_ST_TRAILING, "%s: %llu trailing bytes after the last tensor",
                       h->in.file, (ull)(data_bytes - at));
    return true;
}

bool safetensors_parse(struct safetensors *st, const char *name, const char *text, uint64_t n,
                       uint64_t file_size, struct findings *findings, struct tp_error *err)
{
    /* clang-format off */
    struct header h = {
        .in = {.file = name, .text = text, .size = n, .base = 8, .depth_max = ST_DEPTH_MAX,
               .malformed = TP_E_ST_JSON, .not_utf8 = TP_E_ST_UTF8, .too_deep = TP_E_ST_DEPTH,
               .err = err},
        .st = st,
        .findings = findings,
    };
    /* clang-format on */
    tp_assert(n <= ST_HEADER_MAX && tp_range_in(8, n, file_size));
    st->data_begin = 8 + n;
    uint32_t *order = NULL;
    bool ok = read_header(&h) && warn_of_fields(&h) &&
              (order = mem_array(st->count, 2 * sizeof *order, err)) != NULL &&
              (st->by_name = mem_array(st->count, sizeof *st->by_name, err)) != NULL &&
              check_names(&h, order) &&
              check_layout(&h, file_size - st->data_begin, order, order + st->count);
    mem_free(order);
    if (!ok)
        safetensors_close(st);
    return ok;
}

/* ---- the file ---- */

static bool is_space(unsigned char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Begins as a safetensors file does: a possible header length, then '{'. Other formats' magic is a
 * header length too (640 is a pickle's), so this is asked first. */
static bool has_header(const unsigned char *head, size_t n)
{
    size_t i = 8;
    while (i < n && is_space(head[i]))
        i++;
    return le_u64(head) <= ST_HEADER_MAX && (i == n || head[i] == '{');
}

bool safetensors_header_size(const unsigned char head[8], uint64_t file_size, const char *name,
                             uint64_t *bytes, struct tp_error *err)
{
    uint64_t n = le_u64(head);
    if (n == 0)
        return tp_fail(err, TP_E_ST_EMPTY, "%s: header is empty", name);
    if (n > file_size - 8)
        return tp_fail(err, TP_E_ST_LENGTH,
                       "%s: header length is %llu, found %llu bytes after it: "
                       "incomplete download?",
                       name, (ull)n, (ull)(file_size - 8));
    if (n > ST_HEADER_MAX)
        return tp_fail(err, TP_E_ST_CAP, "%s: header length is %llu, at most %u are allowed", name,
                       (ull)n, ST_HEADER_MAX);
    *bytes = n;
    return true;
}

/* Read, hash and parse the header of the open file. */
static bool open_header(struct safetensors *st, struct findings *findings, struct tp_error *err)
{
    unsigned char head[FILE_KIND_BYTES];
    uint64_t n, size = st->who.size;
    if (size < 8)
        return tp_fail(err, TP_E_ST_SHORT, "%s: %llu bytes, need 8 for the header length", st->name,
                       (ull)size);
    size_t head_bytes = size < sizeof head ? size : sizeof head;
    if (!io_read_at(st->fd, st->path, head, head_bytes, 0, err))
        return false;
    if (!has_header(head, head_bytes) &&
        !file_kind_check(st->name, head, head_bytes, "safetensors", TP_E_ST_KIND, err))
        return false;
    if (!safetensors_header_size(head, size, st->name, &n, err))
        return false;
    char *text = mem_alloc(n, err);
    bool ok = text && io_read_at(st->fd, st->path, text, n, 8, err);
    if (ok)
        st->header_hash = hash_bytes(text, n);
    ok = ok && safetensors_parse(st, st->name, text, n, size, findings, err);
    mem_free(text);
    return ok;
}

bool safetensors_open(struct safetensors *st, const char *path, struct findings *findings,
                      struct tp_error *err)
{
    *st = (struct safetensors){0};
    int fd = io_open_read(path, &st->who, err);
    if (fd < 0)
        goto fail;
    st->path = path; /* marks fd as ours; the copy follows when the header is known to be good */
    st->name = io_base_name(path);
    st->fd = fd;
    if (!open_header(st, findings, err))
        goto fail;
    st->path = mem_arena_copy(&st->arena, path, strlen(path), err);
    if (!st->path) {
        st->path = path;
        goto fail;
    }
    st->name = io_base_name(st->path);
    if (!io_map(fd, st->path, st->who.size, &st->map, err))
        goto fail;
    return true;
fail:
    safetensors_close(st);
    return false;
}

void safetensors_close(struct safetensors *st)
{
    io_unmap(&st->map);
    if (st->path)
        io_close(&st->fd, st->path, NULL);
    mem_free(st->tensors);
    mem_free(st->by_name);
    mem_arena_free(&st->arena);
    *st = (struct safetensors){0};
}

bool safetensors_unchanged(const struct safetensors *st, struct tp_error *err)
{
    struct io_identity held, named;
    if (!io_identify(st->fd, st->path, &held, err))
        return false;
    int fd = io_open_read(st->path, &named, err);
    if (fd < 0 || !io_close(&fd, st->path, err))
        return false;
    if (!io_identity_equal(&held, &st->who) || !io_identity_equal(&named, &st->who))
        return tp_fail(err, TP_E_CHANGED, "%s: changed while reading (%llu bytes, now %llu)",
                       st->path, (ull)st->who.size, (ull)named.size);
    return true;
}

bool safetensors_float_dtype(const struct safetensors *st, const struct st_tensor *tensor,
                             enum dtype *out, struct tp_error *err)
{
    char shown[TP_NAME_BUF];
    switch (tensor->dtype) {
    case ST_F32:
        *out = DTYPE_F32;
        return true;
    case ST_F16:
        *out = DTYPE_F16;
        return true;
    case ST_BF16:
        *out = DTYPE_BF16;
        return true;
    default:
        return tp_fail(err, TP_E_ST_DTYPE_OTHER,
                       "%s: tensor \"%s\": dtype %s is not supported, F32, F16 or BF16 expected",
                       st->name, tp_name_cut(shown, tensor->name, tensor->name_len),
                       st_dtype_name(tensor->dtype));
    }
}
