/* One .safetensors file: 8 bytes of header length, a JSON header, the tensors' bytes.
 *
 * The header is read into a private copy, parsed and checked completely, and dropped: what is left
 * is a table whose every range lies in the file, no two overlapping, no byte of the data uncovered.
 * The data is mapped and borrowed. What the tensors mean is not known here.
 *
 * Stricter than the reference implementation (huggingface/safetensors, safetensors/src/tensor.rs):
 * duplicate names and fields are errors, so are NUL in a name, more than 8 dimensions and names
 * above 1 KiB. More lenient: white space before the header's '{'.
 */
#pragma once
#include "dtype.h"
#include "findings.h"
#include "hash.h"
#include "io.h"
#include "mem.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ST_HEADER_MAX 100000000u
#define ST_TENSORS_MAX (1u << 20)
#define ST_NAME_MAX 1024
#define ST_RANK_MAX 8
#define ST_DEPTH_MAX 8

/* X(name, bits): every dtype of the reference; its name in the header is the name here. */
/* clang-format off */
#define ST_DTYPE_TABLE(X)                                                                          \
    X(BOOL, 8)                                                                                     \
    X(F4, 4) X(F6_E2M3, 6) X(F6_E3M2, 6) X(U8, 8) X(I8, 8) X(F8_E5M2, 8) X(F8_E4M3, 8)             \
        X(F8_E8M0, 8) X(F8_E4M3FNUZ, 8) X(F8_E5M2FNUZ, 8) X(I16, 16) X(U16, 16) X(F16, 16)         \
            X(BF16, 16) X(I32, 32) X(U32, 32) X(F32, 32) X(C64, 64) X(F64, 64) X(I64, 64)          \
                X(U64, 64)
/* clang-format on */

enum st_dtype {
#define X(name, bits) ST_##name,
    ST_DTYPE_TABLE(X)
#undef X
        ST_DTYPE_COUNT
};

const char *st_dtype_name(enum st_dtype dtype); /* "BF16" */
uint64_t st_dtype_bits(enum st_dtype dtype);

struct st_tensor {
    const char *name;            /* UTF-8 without NUL, any other character; never a path */
    uint64_t shape[ST_RANK_MAX]; /* the first `rank`; may hold 0 */
    uint64_t begin, end;         /* bytes of the file; begin has any alignment */
    uint32_t name_len;           /* 1..ST_NAME_MAX */
    uint32_t rank;               /* 0: a scalar */
    enum st_dtype dtype;
};

struct safetensors {
    const char *path; /* as given; NULL: not open */
    const char *name; /* its last part, in errors */
    int fd;           /* valid where path is */
    struct io_identity who;
    struct io_map map;          /* the whole file */
    uint64_t data_begin;        /* 8 + header bytes */
    struct hash128 header_hash; /* of the header's bytes */
    struct st_tensor *tensors;  /* in the header's order */
    uint32_t count;
    uint32_t *by_name;      /* positions in tensors, by name as bytes */
    struct mem_arena arena; /* path and tensor names */
};

/* Open, read and check the header, map the file. Symbolic links are followed once: from then on the
 * descriptor counts. Fields that are not known are a finding.
 * Errors  TP_E_ST_*, TP_E_NOT_REGULAR, TP_E_IO, TP_E_MEMORY; *st is then {0}. */
bool safetensors_open(struct safetensors *st, const char *path, struct findings *findings,
                      struct tp_error *err);
void safetensors_close(struct safetensors *st); /* idempotent; {0} is allowed */

/* The length in the first 8 bytes of a file of file_size >= 8 bytes, checked against it and the
 * cap. */
bool safetensors_header_size(const unsigned char head[8], uint64_t file_size, const char *name,
                             uint64_t *bytes, struct tp_error *err);
/* The table of a header text[0..n) in a file of file_size bytes: no file is touched. Linear memory,
 * n log n time, constant stack. name is used in errors, the text is not kept.
 * Needs   *st is {0} or without a table; file_size >= 8 + n.
 * Errors  TP_E_ST_*, TP_E_MEMORY; *st is then closed. */
bool safetensors_parse(struct safetensors *st, const char *name, const char *text, uint64_t n,
                       uint64_t file_size, struct findings *findings, struct tp_error *err);

/* Names as bytes, the shorter first where one begins the other: <0, 0, >0. */
int st_name_compare(const char *a, size_t a_len, const char *b, size_t b_len);

/* The tensor's bytes, borrowed until close, any alignment: read them by le_* or memcpy. */
static inline const unsigned char *safetensors_data(const struct safetensors *st,
                                                    const struct st_tensor *tensor)
{
    return st->map.data + tensor->begin;
}

/* F32, F16 or BF16 as our dtype; any other is TP_E_ST_DTYPE_OTHER: ask for needed tensors only. */
bool safetensors_float_dtype(const struct safetensors *st, const struct st_tensor *tensor,
                             enum dtype *out, struct tp_error *err);

/* The open file and the one its path leads to are what was opened: TP_E_CHANGED if not, TP_E_IO
 * when the path leads nowhere any more. Called after the last read. */
bool safetensors_unchanged(const struct safetensors *st, struct tp_error *err);
