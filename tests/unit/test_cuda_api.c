/* Our declarations of the CUDA driver, cuBLASLt and NCCL are those of cuda.h, cublasLt.h and
 * nccl.h, where there are such. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "blas_api.h"
#include "cuda_api.h"
#include "nccl_api.h"

#if __has_include(<cuda.h>)
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#include <cuda.h>

/* The one whose argument is a struct of ours. */
typedef cu_result launch_fn(const CUlaunchConfig *, cu_function, void **, void **);

static void functions_have_the_types_of_the_header(void **state)
{
    (void)state;
    const struct cuda_api *ours = NULL;
    (void)ours;
#define X(name, arguments)                                                                         \
    if (!__builtin_types_compatible_p(typeof(&name), typeof(ours->name)) &&                        \
        !__builtin_types_compatible_p(typeof(&name), launch_fn *))                                 \
        fail_msg("%s", #name);
    CUDA_FUNCTIONS(X)
#undef X
}

static void structs_and_numbers_are_those_of_the_header(void **state)
{
    (void)state;
#define SAME(field, theirs)                                                                        \
    assert_int_equal(offsetof(struct cu_launch, field), offsetof(CUlaunchConfig, theirs));         \
    assert_int_equal(sizeof((struct cu_launch){0}.field), sizeof((CUlaunchConfig){0}.theirs))
    SAME(grid_x, gridDimX);
    SAME(grid_z, gridDimZ);
    SAME(block_x, blockDimX);
    SAME(block_z, blockDimZ);
    SAME(shared_bytes, sharedMemBytes);
    SAME(stream, hStream);
    SAME(attributes, attrs);
    SAME(n_attributes, numAttrs);
    assert_int_equal(sizeof(struct cu_launch), sizeof(CUlaunchConfig));
    assert_int_equal(sizeof(struct cu_launch_attribute), sizeof(CUlaunchAttribute));
    assert_int_equal(offsetof(struct cu_launch_attribute, id), offsetof(CUlaunchAttribute, id));
    assert_int_equal(offsetof(struct cu_launch_attribute, value),
                     offsetof(CUlaunchAttribute, value.programmaticStreamSerializationAllowed));
    const struct {
        unsigned ours, theirs;
    } numbers[] = {
        {CU_OK, CUDA_SUCCESS},
        {CU_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY},
        {CU_NO_DEVICE, CUDA_ERROR_NO_DEVICE},
        {CU_NOT_READY, CUDA_ERROR_NOT_READY},
        {CU_PEER_ACCESS_ALREADY_ENABLED, CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED},
        {CU_HOST_PORTABLE, CU_MEMHOSTALLOC_PORTABLE},
        {CU_INVALID_IMAGE, CUDA_ERROR_INVALID_IMAGE},
        {CU_NO_BINARY_FOR_GPU, CUDA_ERROR_NO_BINARY_FOR_GPU},
        {CU_INVALID_PTX, CUDA_ERROR_INVALID_PTX},
        {CU_UNSUPPORTED_PTX, CUDA_ERROR_UNSUPPORTED_PTX_VERSION},
        {CU_ATTRIBUTE_MULTIPROCESSORS, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT},
        {CU_ATTRIBUTE_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR},
        {CU_ATTRIBUTE_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR},
        {CU_ATTRIBUTE_SHARED_OPTIN, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN},
        {CU_FUNCTION_PTX_VERSION, CU_FUNC_ATTRIBUTE_PTX_VERSION},
        {CU_FUNCTION_SHARED, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES},
        {CU_NON_BLOCKING, CU_STREAM_NON_BLOCKING},
        {CU_NO_TIMING, CU_EVENT_DISABLE_TIMING},
        {CU_CAPTURE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL},
        {CU_LAUNCH_PROGRAMMATIC, CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].ours != numbers[i].theirs)
            fail_msg("number %zu: %u, %u in cuda.h", i, numbers[i].ours, numbers[i].theirs);
}
#else
static void functions_have_the_types_of_the_header(void **state)
{
    (void)state;
    print_message("SKIP: no cuda.h here\n");
    skip();
}
#define structs_and_numbers_are_those_of_the_header functions_have_the_types_of_the_header
#endif

/* The lists of functions once more, with the headers' own types. */
#if __has_include(<cublasLt.h>)
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#include <cublasLt.h>
#define cublas_product cublasLtMatmulDesc_t
#define cublas_layout cublasLtMatrixLayout_t
#define cublas_wish cublasLtMatmulPreference_t
#define cublas_algorithm cublasLtMatmulAlgo_t
#define cublas_choice cublasLtMatmulHeuristicResult_t
static void cublas_is_that_of_the_header(void **state)
{
    (void)state;
#define X(name, returns, arguments)                                                                \
    if (!__builtin_types_compatible_p(typeof(&name), returns(*) arguments))                        \
        fail_msg("%s", #name);
    CUBLAS_FUNCTIONS(X)
#undef X
#undef cublas_algorithm
#undef cublas_choice
    assert_int_equal(sizeof(cublas_algorithm), sizeof(cublasLtMatmulAlgo_t));
    assert_int_equal(sizeof(cublas_choice), sizeof(cublasLtMatmulHeuristicResult_t));
#define SAME_CHOICE(field, theirs)                                                                 \
    assert_int_equal(offsetof(cublas_choice, field),                                               \
                     offsetof(cublasLtMatmulHeuristicResult_t, theirs))
    SAME_CHOICE(algorithm, algo);
    SAME_CHOICE(workspace, workspaceSize);
    SAME_CHOICE(status, state);
    SAME_CHOICE(waves, wavesCount);
    const unsigned numbers[][2] = {
        {CUBLAS_OK, CUBLAS_STATUS_SUCCESS},
        {CUBLAS_NO_MEMORY, CUBLAS_STATUS_ALLOC_FAILED},
        {CUBLAS_INVALID, CUBLAS_STATUS_INVALID_VALUE},
        {CUBLAS_NOT_SUPPORTED, CUBLAS_STATUS_NOT_SUPPORTED},
        {CUBLAS_F32, CUDA_R_32F},
        {CUBLAS_F16, CUDA_R_16F},
        {CUBLAS_BF16, CUDA_R_16BF},
        {CUBLAS_COMPUTE_F32, CUBLAS_COMPUTE_32F},
        {CUBLAS_TRANSPOSED, CUBLAS_OP_T},
        {CUBLAS_PRODUCT_TRANSPOSE_A, CUBLASLT_MATMUL_DESC_TRANSA},
        {CUBLAS_WISH_WORKSPACE, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES},
        {CUBLAS_WISH_REDUCTIONS, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK},
        {0, CUBLASLT_REDUCTION_SCHEME_NONE},
        {CUBLAS_WISH_ALIGNMENT_A, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES},
        {CUBLAS_WISH_ALIGNMENT_A + 3, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i][0] != numbers[i][1])
            fail_msg("number %zu: %u, %u in cublasLt.h", i, numbers[i][0], numbers[i][1]);
}
#else
static void cublas_is_that_of_the_header(void **state)
{
    (void)state;
    print_message("SKIP: no cublasLt.h here\n");
    skip();
}
#endif

#if __has_include(<nccl.h>)
#include <nccl.h>
#define nccl_id ncclUniqueId
static void nccl_is_that_of_the_header(void **state)
{
    (void)state;
#define X(name, returns, arguments)                                                                \
    if (!__builtin_types_compatible_p(typeof(&name), returns(*) arguments))                        \
        fail_msg("%s", #name);
    NCCL_FUNCTIONS(X)
#undef X
#undef nccl_id
    assert_int_equal(sizeof(nccl_id), sizeof(ncclUniqueId));
    assert_int_equal(_Alignof(nccl_id), _Alignof(ncclUniqueId));
    assert_int_equal(NCCL_OK, ncclSuccess);
    assert_int_equal(NCCL_CUDA_ERROR, ncclUnhandledCudaError);
    assert_int_equal(NCCL_REMOTE_ERROR, ncclRemoteError);
    assert_int_equal(NCCL_F32, ncclFloat32);
}
#else
static void nccl_is_that_of_the_header(void **state)
{
    (void)state;
    print_message("SKIP: no nccl.h here\n");
    skip();
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_have_the_types_of_the_header),
        cmocka_unit_test(structs_and_numbers_are_those_of_the_header),
        cmocka_unit_test(cublas_is_that_of_the_header),
        cmocka_unit_test(nccl_is_that_of_the_header),
    };
    return cmocka_run_group_tests_name("cuda api", tests, NULL, NULL);
}
