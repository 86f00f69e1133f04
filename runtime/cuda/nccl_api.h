/* The functions of NCCL that are used, by declarations of our own, as cuda_api.h has the driver's.
 * A test compares them with nccl.h where there is one.
 * https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/api.html
 */
#pragma once
#include "cuda_api.h"

typedef unsigned nccl_result;
typedef struct ncclComm *nccl_comm;
typedef struct {
    char bytes[128];
} nccl_id;

enum { NCCL_OK = 0, NCCL_CUDA_ERROR = 1, NCCL_REMOTE_ERROR = 6, NCCL_F32 = 7 };

/* X(name in the library, what it returns, arguments) */
#define NCCL_FUNCTIONS(X)                                                                          \
    X(ncclGetErrorString, const char *, (nccl_result result))                                      \
    X(ncclGetUniqueId, nccl_result, (nccl_id * id))                                                \
    X(ncclCommInitRank, nccl_result, (nccl_comm * comm, int ranks, nccl_id id, int rank))          \
    X(ncclCommGetAsyncError, nccl_result, (nccl_comm comm, nccl_result * error))                   \
    X(ncclCommAbort, nccl_result, (nccl_comm comm))                                                \
    X(ncclCommDestroy, nccl_result, (nccl_comm comm))                                              \
    X(ncclAllGather, nccl_result,                                                                  \
      (const void *mine, void *all, size_t count, unsigned type, nccl_comm comm,                   \
       cu_stream stream))

struct nccl_api {
    void *library;
#define X(name, returns, arguments) returns(*name) arguments;
    NCCL_FUNCTIONS(X)
#undef X
};

/* Is libnccl.so.2 on the loader's path? It is not opened. */
bool nccl_api_there(void);
/* Open it and find every function. TP_E_UNSUPPORTED: it cannot be opened. */
bool nccl_api_open(struct nccl_api *api, struct tp_error *err);
void nccl_api_close(struct nccl_api *api); /* {0} is allowed */
/* true for NCCL_OK; else TP_E_DEVICE. call: its name. */
bool nccl_ok(const struct nccl_api *api, nccl_result result, const char *call,
             struct tp_error *err);
/* NCCL(api, err, ncclFunction, (arguments)): called and checked */
#define NCCL(api, err, function, arguments) nccl_ok(api, (api)->function arguments, #function, err)
