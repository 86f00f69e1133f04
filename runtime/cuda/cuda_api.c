#include "cuda_api.h"

#include "cuda_library.h"
#include <dlfcn.h>

bool cuda_api_open(struct cuda_api *api, struct tp_error *err)
{
    static const struct library_function functions[] = {
#define X(name, arguments) {#name, offsetof(struct cuda_api, name)},
        CUDA_FUNCTIONS(X)
#undef X
    };
    const char *missing;
    *api = (struct cuda_api){0};
    api->library = library_open("libcuda.so.1", functions, sizeof functions / sizeof *functions,
                                api, &missing);
    if (api->library)
        return true;
    *api = (struct cuda_api){0};
    if (missing)
        return tp_fail(err, TP_E_UNSUPPORTED,
                       "--device cuda: the CUDA driver is too old, it has no %s; 12.0 or later "
                       "is needed",
                       missing);
    return tp_fail(err, TP_E_UNSUPPORTED,
                   "--device cuda: no CUDA driver here (libcuda.so.1 cannot be opened)");
}

void cuda_api_close(struct cuda_api *api)
{
    if (api->library)
        dlclose(api->library);
    *api = (struct cuda_api){0};
}

bool cuda_ok(const struct cuda_api *api, cu_result result, const char *call, struct tp_error *err)
{
    const char *name = NULL;
    if (result == CU_OK)
        return true;
    if (api->cuGetErrorName(result, &name) != CU_OK || !name)
        name = "unknown";
    return tp_fail(err, result == CU_OUT_OF_MEMORY ? TP_E_MEMORY : TP_E_DEVICE,
                   "--device cuda: %s: %s (%u)", call, name, result);
}
