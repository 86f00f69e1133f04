#include "cuda_device.h"

#include "cuda_library.h"

static bool start(struct cuda_api *api, int *count, struct tp_error *err)
{
    cu_result result = api->cuInit(0);
    *count = 0;
    if (result == CU_OK)
        result = api->cuDeviceGetCount(count);
    if (result == CU_NO_DEVICE || (result == CU_OK && *count == 0))
        return tp_fail(err, TP_E_UNSUPPORTED, "--device cuda: the CUDA driver finds no GPU");
    return cuda_ok(api, result, "cuInit", err);
}

static bool find_device(struct cuda *c, int ordinal, struct tp_error *err)
{
    struct cuda_api *api = &c->api;
    int count;
    if (!start(api, &count, err) || !CUDA(api, err, cuDeviceGet, (&c->device, ordinal)) ||
        !CUDA(api, err, cuDeviceGetName, (c->name, (int)sizeof c->name, c->device)) ||
        !CUDA(api, err, cuDriverGetVersion, (&c->driver)))
        return false;
    const struct {
        unsigned attribute;
        int *value;
    } wanted[] = {
        {CU_ATTRIBUTE_MULTIPROCESSORS, &c->multiprocessors},
        {CU_ATTRIBUTE_MAJOR, &c->major},
        {CU_ATTRIBUTE_MINOR, &c->minor},
        {CU_ATTRIBUTE_SHARED_OPTIN, &c->shared_max},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!CUDA(api, err, cuDeviceGetAttribute,
                  (wanted[i].value, wanted[i].attribute, c->device)))
            return false;
    return c->major >= 8 ||
           tp_fail(err, TP_E_UNSUPPORTED,
                   "--device cuda: %s has compute capability %d.%d, 8.0 or later is needed",
                   c->name, c->major, c->minor);
}

static bool load_module(struct cuda *c, struct tp_error *err)
{
    struct cuda_image image = cuda_image();
    cu_result result = c->api.cuModuleLoadData(&c->module, image.data);
    if (result == CU_INVALID_IMAGE || result == CU_NO_BINARY_FOR_GPU || result == CU_INVALID_PTX ||
        result == CU_UNSUPPORTED_PTX)
        return tp_fail(err, TP_E_UNSUPPORTED,
                       "--device cuda: %s (%d.%d) with a driver for CUDA %d.%d cannot run this "
                       "build's kernels; a newer driver may, or CUDA_ARCHS names the GPU's",
                       c->name, c->major, c->minor, c->driver / 1000, c->driver % 1000 / 10);
    return cuda_ok(&c->api, result, "cuModuleLoadData", err);
}

bool cuda_use(const struct cuda *c, struct tp_error *err)
{
    return CUDA(&c->api, err, cuCtxSetCurrent, (c->context));
}

static bool open_api(struct cuda_api *api, struct tp_error *err)
{
    if (!cuda_image().size)
        return tp_fail(err, TP_E_UNSUPPORTED,
                       "--device cuda: this build has no GPU kernels; nvcc makes them "
                       "(scripts/install_cuda.sh, then make)");
    return cuda_api_open(api, err);
}

static bool open_all(struct cuda *c, int ordinal, struct tp_error *err)
{
    *c = (struct cuda){.device = 0};
    if (!open_api(&c->api, err))
        return false;
    if (find_device(c, ordinal, err) &&
        CUDA(&c->api, err, cuDevicePrimaryCtxRetain, (&c->context, c->device)) &&
        cuda_use(c, err) && load_module(c, err) &&
        CUDA(&c->api, err, cuStreamCreate, (&c->stream, CU_NON_BLOCKING)) &&
        CUDA(&c->api, err, cuStreamCreate, (&c->aside, CU_NON_BLOCKING)))
        return true;
    cuda_close(c);
    return false;
}

bool cuda_count(int *count, struct tp_error *err)
{
    struct cuda_api api = {0};
    sigset_t before;
    library_block_signals(&before);
    bool ok = open_api(&api, err) && start(&api, count, err);
    cuda_api_close(&api);
    library_restore_signals(&before);
    return ok;
}

bool cuda_open(struct cuda *c, int ordinal, struct tp_error *err)
{
    sigset_t before;
    library_block_signals(&before);
    bool ok = open_all(c, ordinal, err);
    library_restore_signals(&before);
    return ok;
}

bool cuda_reach(const struct cuda *c, const struct cuda *other, bool *can, struct tp_error *err)
{
    int yes = 0;
    if (!cuda_use(c, err) ||
        !CUDA(&c->api, err, cuDeviceCanAccessPeer, (&yes, c->device, other->device)))
        return false;
    *can = yes;
    const cu_result result = yes ? c->api.cuCtxEnablePeerAccess(other->context, 0) : CU_OK;
    return result == CU_PEER_ACCESS_ALREADY_ENABLED ||
           cuda_ok(&c->api, result, "cuCtxEnablePeerAccess", err);
}

void cuda_close(struct cuda *c)
{
    if (c->context)
        c->api.cuCtxSetCurrent(c->context);
    if (c->stream)
        c->api.cuStreamDestroy_v2(c->stream);
    if (c->aside)
        c->api.cuStreamDestroy_v2(c->aside);
    if (c->module)
        c->api.cuModuleUnload(c->module);
    if (c->context)
        c->api.cuDevicePrimaryCtxRelease_v2(c->device);
    cuda_api_close(&c->api);
    *c = (struct cuda){.device = 0};
}

bool cuda_kernel(const struct cuda *c, const char *name, cu_function *function,
                 struct tp_error *err)
{
    return CUDA(&c->api, err, cuModuleGetFunction, (function, c->module, name)) &&
           CUDA(&c->api, err, cuFuncSetAttribute, (*function, CU_FUNCTION_SHARED, c->shared_max));
}

bool cuda_launch_on(const struct cuda *c, cu_stream stream, bool early, cu_function function,
                    unsigned grid, unsigned threads, size_t shared_bytes, void *arguments,
                    struct tp_error *err)
{
    struct cu_launch_attribute programmatic = {.id = CU_LAUNCH_PROGRAMMATIC, .value = 1};
    const struct cu_launch launch = {
        .grid_x = grid,
        .grid_y = 1,
        .grid_z = 1,
        .block_x = threads,
        .block_y = 1,
        .block_z = 1,
        .shared_bytes = (unsigned)shared_bytes,
        .stream = stream,
        .attributes = &programmatic,
        .n_attributes = early,
    };
    void *pointers[] = {arguments};
    return CUDA(&c->api, err, cuLaunchKernelEx, (&launch, function, pointers, NULL));
}

bool cuda_launch(const struct cuda *c, cu_function function, unsigned grid, unsigned threads,
                 size_t shared_bytes, void *arguments, struct tp_error *err)
{
    return cuda_launch_on(c, c->stream, c->early, function, grid, threads, shared_bytes, arguments,
                          err);
}
