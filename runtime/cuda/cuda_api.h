/* The CUDA driver's functions that are used, by declarations of our own: libcuda is opened at run
 * time, and one build serves machines with and without it. A test compares them with cuda.h where
 * there is one. https://docs.nvidia.com/cuda/cuda-driver-api/
 */
#pragma once
#include "error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int cu_device;
typedef unsigned long long cu_address; /* of the device's memory */
typedef unsigned cu_result;
typedef struct CUctx_st *cu_context;
typedef struct CUmod_st *cu_module;
typedef struct CUfunc_st *cu_function;
typedef struct CUstream_st *cu_stream;
typedef struct CUevent_st *cu_event;
typedef struct CUgraph_st *cu_graph;
typedef struct CUgraphExec_st *cu_graph_exec;

enum {
    CU_OK = 0,
    CU_OUT_OF_MEMORY = 2,
    CU_NOT_READY = 600,
    CU_PEER_ACCESS_ALREADY_ENABLED = 704,
    CU_NO_DEVICE = 100,
    CU_INVALID_IMAGE = 200,
    CU_NO_BINARY_FOR_GPU = 209,
    CU_INVALID_PTX = 218,
    CU_UNSUPPORTED_PTX = 222,
    /* of a device */
    CU_ATTRIBUTE_MULTIPROCESSORS = 16,
    CU_ATTRIBUTE_MAJOR = 75,
    CU_ATTRIBUTE_MINOR = 76,
    CU_ATTRIBUTE_SHARED_OPTIN = 97, /* bytes of shared memory that a CTA may have */
    /* of a function */
    CU_FUNCTION_PTX_VERSION = 5,
    CU_FUNCTION_SHARED = 8,
    /* flags */
    CU_NON_BLOCKING = 1,
    CU_HOST_PORTABLE = 1, /* pinned memory, for all contexts */
    CU_NO_TIMING = 2,
    CU_CAPTURE_THREAD_LOCAL = 1,
    /* of a launch: the kernel may begin before the one ahead has ended */
    CU_LAUNCH_PROGRAMMATIC = 6,
};

struct cu_launch_attribute {
    int id, pad;
    union {
        char bytes[64];
        int value;
    };
};
struct cu_launch {
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
    cu_stream stream;
    struct cu_launch_attribute *attributes;
    unsigned n_attributes;
};

/* X(name in the library, arguments) */
#define CUDA_FUNCTIONS(X)                                                                          \
    X(cuInit, (unsigned flags))                                                                    \
    X(cuDriverGetVersion, (int *version))                                                          \
    X(cuGetErrorName, (cu_result result, const char **name))                                       \
    X(cuDeviceGetCount, (int *count))                                                              \
    X(cuDeviceGet, (cu_device * device, int ordinal))                                              \
    X(cuDeviceGetName, (char *name, int size, cu_device device))                                   \
    X(cuDeviceGetAttribute, (int *value, unsigned attribute, cu_device device))                    \
    X(cuDevicePrimaryCtxRetain, (cu_context * context, cu_device device))                          \
    X(cuDevicePrimaryCtxRelease_v2, (cu_device device))                                            \
    X(cuCtxSetCurrent, (cu_context context))                                                       \
    X(cuDeviceCanAccessPeer, (int *can, cu_device device, cu_device peer))                         \
    X(cuCtxEnablePeerAccess, (cu_context peer, unsigned flags))                                    \
    X(cuMemGetInfo_v2, (size_t * free, size_t * total))                                            \
    X(cuMemAlloc_v2, (cu_address * address, size_t bytes))                                         \
    X(cuMemFree_v2, (cu_address address))                                                          \
    X(cuMemHostAlloc, (void **host, size_t bytes, unsigned flags))                                 \
    X(cuMemFreeHost, (void *host))                                                                 \
    X(cuMemcpyHtoDAsync_v2, (cu_address to, const void *from, size_t bytes, cu_stream stream))     \
    X(cuMemcpyDtoHAsync_v2, (void *to, cu_address from, size_t bytes, cu_stream stream))           \
    X(cuMemcpyDtoDAsync_v2, (cu_address to, cu_address from, size_t bytes, cu_stream stream))      \
    X(cuMemsetD8Async, (cu_address to, unsigned char value, size_t bytes, cu_stream stream))       \
    X(cuStreamCreate, (cu_stream * stream, unsigned flags))                                        \
    X(cuStreamDestroy_v2, (cu_stream stream))                                                      \
    X(cuStreamSynchronize, (cu_stream stream))                                                     \
    X(cuStreamQuery, (cu_stream stream))                                                           \
    X(cuStreamWaitEvent, (cu_stream stream, cu_event event, unsigned flags))                       \
    X(cuEventCreate, (cu_event * event, unsigned flags))                                           \
    X(cuEventDestroy_v2, (cu_event event))                                                         \
    X(cuEventRecord, (cu_event event, cu_stream stream))                                           \
    X(cuEventSynchronize, (cu_event event))                                                        \
    X(cuModuleLoadData, (cu_module * module, const void *image))                                   \
    X(cuModuleUnload, (cu_module module))                                                          \
    X(cuModuleGetFunction, (cu_function * function, cu_module module, const char *name))           \
    X(cuFuncSetAttribute, (cu_function function, unsigned attribute, int value))                   \
    X(cuFuncGetAttribute, (int *value, unsigned attribute, cu_function function))                  \
    X(cuLaunchKernelEx,                                                                            \
      (const struct cu_launch *launch, cu_function function, void **arguments, void **extra))      \
    X(cuStreamBeginCapture_v2, (cu_stream stream, unsigned mode))                                  \
    X(cuStreamEndCapture, (cu_stream stream, cu_graph * graph))                                    \
    X(cuGraphInstantiateWithFlags,                                                                 \
      (cu_graph_exec * exec, cu_graph graph, unsigned long long flags))                            \
    X(cuGraphLaunch, (cu_graph_exec exec, cu_stream stream))                                       \
    X(cuGraphExecDestroy, (cu_graph_exec exec))                                                    \
    X(cuGraphDestroy, (cu_graph graph))

struct cuda_api {
    void *library;
#define X(name, arguments) cu_result(*name) arguments;
    CUDA_FUNCTIONS(X)
#undef X
};

/* Open libcuda.so.1 and find every function. TP_E_UNSUPPORTED: it is not there, or too old. */
bool cuda_api_open(struct cuda_api *api, struct tp_error *err);
void cuda_api_close(struct cuda_api *api); /* {0} is allowed */
/* true for CU_OK; else TP_E_MEMORY where the device has none left, TP_E_DEVICE. call: its name. */
bool cuda_ok(const struct cuda_api *api, cu_result result, const char *call, struct tp_error *err);
/* CUDA(api, err, cuFunction, (arguments)): called and checked */
#define CUDA(api, err, function, arguments) cuda_ok(api, (api)->function arguments, #function, err)
