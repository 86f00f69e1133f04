#include "blas_api.h"

#include "cuda_library.h"
#include <dlfcn.h>

/* newest first */
static const char *const sonames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
enum { SONAMES = sizeof sonames / sizeof *sonames };

bool cublas_api_there(void)
{
    for (int i = 0; i < SONAMES; i++)
        if (library_there(sonames[i]))
            return true;
    return false;
}

bool cublas_api_open(struct cublas_api *api, struct tp_error *err)
{
    static const struct library_function functions[] = {
#define X(name, returns, arguments) {#name, offsetof(struct cublas_api, name)},
        CUBLAS_FUNCTIONS(X)
#undef X
    };
    const char *missing = NULL;
    *api = (struct cublas_api){0};
    for (int i = 0; i < SONAMES && !api->library && !missing; i++)
        api->library = library_open(sonames[i], functions, sizeof functions / sizeof *functions,
                                    api, &missing);
    if (api->library)
        return true;
    *api = (struct cublas_api){0};
    if (missing)
        return tp_fail(err, TP_E_UNSUPPORTED, "--device cuda: libcublasLt has no %s", missing);
    return tp_fail(err, TP_E_UNSUPPORTED,
                   "--device cuda: libcublasLt.so.13 or .12 cannot be opened");
}

void cublas_api_close(struct cublas_api *api)
{
    if (api->library)
        dlclose(api->library);
    *api = (struct cublas_api){0};
}

bool cublas_ok(const struct cublas_api *api, cublas_status status, const char *call,
               struct tp_error *err)
{
    if (status == CUBLAS_OK)
        return true;
    const char *name = api->cublasLtGetStatusName(status);
    return tp_fail(err, status == CUBLAS_NO_MEMORY ? TP_E_MEMORY : TP_E_DEVICE,
                   "--device cuda: %s: %s (%u)", call, name ? name : "unknown", status);
}
