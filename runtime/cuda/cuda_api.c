#include "cuda_api.h"

#include <dlfcn.h>
#include <string.h>

bool cuda_api_open(struct cuda_api *api, struct tp_error *err)
{
    static const struct {
        const char *name;
        size_t at;
    } functions[] = {
#define X(name, arguments) {#name, offsetof(struct cuda_api, name)},
        CUDA_FUNCTIONS(X)
#undef X
    };
    /* it stays: threads that used it have things of its own that end with them */
    *api = (struct cuda_api){.library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NODELETE)};
    if (!api->library)
        return tp_fail(err, TP_E_UNSUPPORTED,
                       "--device cuda: no CUDA driver here (libcuda.so.1 cannot be opened)");
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *found = dlsym(api->library, functions[i].name);
        if (!found) {
            cuda_api_close(api);
            return tp_fail(err, TP_E_UNSUPPORTED,
                           "--device cuda: the CUDA driver is too old, it has no %s; 12.0 or later "
                           "is needed",
                           functions[i].name);
        }
        memcpy((char *)api + functions[i].at, &found, sizeof found);
    }
    return true;
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
