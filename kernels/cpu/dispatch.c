/* Which tables this CPU and this system can run. */
#include "cpu_has.h"
#include "tables.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool has_avx512bf16(void)
{
    return cpu_has_avx512() && __builtin_cpu_supports("avx512bf16") &&
           __builtin_cpu_supports("avx512vbmi") && pairs_add_in_order();
}

/* EDX of leaf 7; not every compiler knows these names. */
enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };

static bool has_amx_bit(unsigned bit)
{
    unsigned a, b, c, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && d & bit;
}

/* A process may use tiles once it has asked the system; all its threads may then. */
static bool tiles_allowed(void)
{
    enum { REQUEST = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

static bool has_amx(void)
{
    return cpu_has_avx512() && has_amx_bit(AMX_TILE) && has_amx_bit(AMX_BF16) && tiles_allowed() &&
           tiles_add_in_order_amx();
}

/* Processors whose VDPBF16PS does more than two FMAs in its time: AMD's. Intel's that have it do
 * less than one, with FMA twice as wide. */
static bool bf16_is_fast(void)
{
    return __builtin_cpu_is("amd");
}

const struct kernels *kernels_get(enum isa isa)
{
    switch (isa) {
    case ISA_SCALAR:
        return &kernels_scalar;
    case ISA_AVX2:
        return cpu_has_avx2() ? &kernels_avx2 : NULL;
    case ISA_AVX512:
        return cpu_has_avx512() ? &kernels_avx512 : NULL;
    case ISA_AVX512BF16:
        return has_avx512bf16() ? &kernels_avx512bf16 : NULL;
    case ISA_AMX:
        return has_amx() ? &kernels_amx : NULL;
    case ISA_COUNT:
        break;
    }
    return NULL;
}

const struct kernels *kernels_best(void)
{
    for (enum isa isa = ISA_COUNT; isa-- > ISA_SCALAR;) {
        const struct kernels *k =
            isa == ISA_AVX512BF16 && !bf16_is_fast() ? NULL : kernels_get(isa);
        if (k)
            return k;
    }
    return &kernels_scalar;
}

size_t kernels_features(const char *names[KERNELS_FEATURES_MAX])
{
    const struct {
        const char *name;
        int here;
    } all[] = {
        {"avx2", __builtin_cpu_supports("avx2")},
        {"fma", __builtin_cpu_supports("fma")},
        {"f16c", cpu_has_f16c()},
        {"avx512f", __builtin_cpu_supports("avx512f")},
        {"avx512bw", __builtin_cpu_supports("avx512bw")},
        {"avx512vl", __builtin_cpu_supports("avx512vl")},
        {"avx512dq", __builtin_cpu_supports("avx512dq")},
        {"avx512bf16", __builtin_cpu_supports("avx512bf16")},
        {"avx512vbmi", __builtin_cpu_supports("avx512vbmi")},
        {"amx_tile", has_amx_bit(AMX_TILE)},
        {"amx_bf16", has_amx_bit(AMX_BF16)},
    };
    _Static_assert(sizeof all / sizeof *all <= KERNELS_FEATURES_MAX, "room of the caller's");
    size_t n = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].here)
            names[n++] = all[i].name;
    return n;
}

bool isa_from_name(const char *name, enum isa *out)
{
    static const struct kernels *const all[] = {&kernels_scalar, &kernels_avx2, &kernels_avx512,
                                                &kernels_avx512bf16, &kernels_amx};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(name, all[i]->name) == 0) {
            *out = all[i]->isa;
            return true;
        }
    return false;
}
