#include "nccl_api.h"

#include "cuda_library.h"
#include <dlfcn.h>

static const char soname[] = "libnccl.so.2";

bool nccl_api_there(void)
{
    return library_there(soname);
}

bool nccl_api_open(struct nccl_api *api, struct tp_error *err)
{
    static const struct library_function functions[] = {
#define X(name, returns, arguments) {#name, offsetof(struct nccl_api, name)},
        NCCL_FUNCTIONS(X)
#undef X
    };
    const char *missing;
    *api = (struct nccl_api){0};
    api->library =
        library_open(soname, functions, sizeof functions / sizeof *functions, api, &missing);
    if (api->library)
        return true;
    *api = (struct nccl_api){0};
    if (missing)
        return tp_fail(err, TP_E_UNSUPPORTED, "--device cuda: %s has no %s", soname, missing);
    return tp_fail(err, TP_E_UNSUPPORTED, "--device cuda: %s cannot be opened", soname);
}

void nccl_api_close(struct nccl_api *api)
{
    if (api->library)
        dlclose(api->library);
    *api = (struct nccl_api){0};
}

bool nccl_ok(const struct nccl_api *api, nccl_result result, const char *call, struct tp_error *err)
{
    if (result == NCCL_OK)
        return true;
    const char *name = api->ncclGetErrorString(result);
    return tp_fail(err, TP_E_DEVICE, "--device cuda: %s: %s (%u)", call, name ? name : "unknown",
                   result);
}
