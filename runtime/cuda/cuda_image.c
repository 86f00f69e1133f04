/* The GPU's kernels, as nvcc made them (kernels.fatbin, see the Makefile), inside the program. */
#include "cuda_device.h"

#ifdef CUDA_FATBIN
__asm__(".section .rodata\n"
        ".balign 16\n"
        "cuda_fatbin_begin:\n"
        ".incbin \"" CUDA_FATBIN "\"\n"
        "cuda_fatbin_end:\n"
        ".previous\n");
extern const unsigned char cuda_fatbin_begin[], cuda_fatbin_end[];

struct cuda_image cuda_image(void)
{
    return (struct cuda_image){cuda_fatbin_begin, (size_t)(cuda_fatbin_end - cuda_fatbin_begin)};
}
#else
struct cuda_image cuda_image(void)
{
    return (struct cuda_image){NULL, 0};
}
#endif
