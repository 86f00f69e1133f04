/* Our declarations of the CUDA driver are cuda.h's, where there is one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cuda_api.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_have_the_types_of_the_header),
        cmocka_unit_test(structs_and_numbers_are_those_of_the_header),
    };
    return cmocka_run_group_tests_name("cuda api", tests, NULL, NULL);
}
