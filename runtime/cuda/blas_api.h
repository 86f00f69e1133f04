/* The functions of cuBLASLt that are used, by declarations of our own, as cuda_api.h has the
 * driver's. A test compares them with cublasLt.h where there is one.
 * https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api
 */
#pragma once
#include "cuda_api.h"

typedef unsigned cublas_status;
typedef struct cublasLtContext *cublas_handle;
typedef struct cublas_product_st *cublas_product; /* what is computed: types, transposes */
typedef struct cublas_layout_st *cublas_layout;   /* of a matrix, columns one after the other */
typedef struct cublas_wish_st *cublas_wish;       /* which algorithms may be chosen */
typedef struct {
    uint64_t data[8];
} cublas_algorithm;
typedef struct {
    cublas_algorithm algorithm;
    size_t workspace; /* bytes */
    cublas_status status;
    float waves;
    int reserved[4];
} cublas_choice;

enum {
    CUBLAS_OK = 0,
    CUBLAS_NO_MEMORY = 3,
    CUBLAS_INVALID = 7,
    CUBLAS_NOT_SUPPORTED = 15,
    CUBLAS_F32 = 0, /* types of values */
    CUBLAS_F16 = 2,
    CUBLAS_BF16 = 14,
    CUBLAS_COMPUTE_F32 = 68,
    CUBLAS_TRANSPOSED = 1,
    CUBLAS_PRODUCT_TRANSPOSE_A = 3, /* attributes */
    CUBLAS_WISH_WORKSPACE = 1,
    CUBLAS_WISH_REDUCTIONS = 3,  /* a mask of how parts of a sum may be added up; 0: no parts */
    CUBLAS_WISH_ALIGNMENT_A = 5, /* bytes, as all the others; B, C, D follow */
};

/* X(name in the library, what it returns, arguments) */
#define CUBLAS_FUNCTIONS(X)                                                                        \
    X(cublasLtGetStatusName, const char *, (cublas_status status))                                 \
    X(cublasLtCreate, cublas_status, (cublas_handle * handle))                                     \
    X(cublasLtDestroy, cublas_status, (cublas_handle handle))                                      \
    X(cublasLtMatmulDescCreate, cublas_status,                                                     \
      (cublas_product * product, unsigned compute, unsigned scale_type))                           \
    X(cublasLtMatmulDescDestroy, cublas_status, (cublas_product product))                          \
    X(cublasLtMatmulDescSetAttribute, cublas_status,                                               \
      (cublas_product product, unsigned attribute, const void *value, size_t bytes))               \
    X(cublasLtMatrixLayoutCreate, cublas_status,                                                   \
      (cublas_layout * layout, unsigned type, uint64_t rows, uint64_t columns, int64_t stride))    \
    X(cublasLtMatrixLayoutDestroy, cublas_status, (cublas_layout layout))                          \
    X(cublasLtMatmulPreferenceCreate, cublas_status, (cublas_wish * wish))                         \
    X(cublasLtMatmulPreferenceDestroy, cublas_status, (cublas_wish wish))                          \
    X(cublasLtMatmulPreferenceSetAttribute, cublas_status,                                         \
      (cublas_wish wish, unsigned attribute, const void *value, size_t bytes))                     \
    X(cublasLtMatmulAlgoGetHeuristic, cublas_status,                                               \
      (cublas_handle handle, cublas_product product, cublas_layout a, cublas_layout b,             \
       cublas_layout c, cublas_layout d, cublas_wish wish, int wanted, cublas_choice choices[],    \
       int *count))                                                                                \
    X(cublasLtMatmul, cublas_status,                                                               \
      (cublas_handle handle, cublas_product product, const void *alpha, const void *a,             \
       cublas_layout a_layout, const void *b, cublas_layout b_layout, const void *beta,            \
       const void *c, cublas_layout c_layout, void *d, cublas_layout d_layout,                     \
       const cublas_algorithm *algorithm, void *workspace, size_t bytes, cu_stream stream))

struct cublas_api {
    void *library;
#define X(name, returns, arguments) returns(*name) arguments;
    CUBLAS_FUNCTIONS(X)
#undef X
};

/* Is libcublasLt.so.13 or .12 on the loader's path? It is not opened. */
bool cublas_api_there(void);
/* Open it and find every function. TP_E_UNSUPPORTED: none can be opened. */
bool cublas_api_open(struct cublas_api *api, struct tp_error *err);
void cublas_api_close(struct cublas_api *api); /* {0} is allowed */
/* true for CUBLAS_OK; else TP_E_MEMORY or TP_E_DEVICE. call: its name. */
bool cublas_ok(const struct cublas_api *api, cublas_status status, const char *call,
               struct tp_error *err);
/* CUBLAS(api, err, cublasLtFunction, (arguments)): called and checked */
#define CUBLAS(api, err, function, arguments)                                                      \
    cublas_ok(api, (api)->function arguments, #function, err)
