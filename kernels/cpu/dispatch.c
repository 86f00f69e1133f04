/* Which tables this CPU and this system can run. */
#include "cpu_set.h"
#include "tables.h"

#include <cpuid.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* EDX of leaf 7; not every compiler knows these names. */
enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };

static bool has_amx_bits(unsigned bits)
{
    unsigned a, b, c, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & bits) == bits;
}

/* A process may use tiles once it has asked the system; all its threads may then. */
static bool tiles_allowed(void)
{
    enum { REQUEST = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

/* Processors whose VDPBF16PS does more than two FMAs in its time: AMD's. Intel's that have it do
 * less than one, with FMA twice as wide. */
static bool bf16_is_fast(void)
{
    return __builtin_cpu_is("amd");
}

static const struct kernels *const tables[ISA_COUNT] = {
    [ISA_SCALAR] = &kernels_scalar, [ISA_AVX2] = &kernels_avx2,
    [ISA_AVX512] = &kernels_avx512, [ISA_AVX512BF16] = &kernels_avx512bf16,
    [ISA_AMX] = &kernels_amx,
};

static bool can_run(enum isa isa)
{
    switch (isa) {
    case ISA_SCALAR:
        return true;
    case ISA_AVX2:
        return cpu_best() >= CPU_AVX2;
    case ISA_AVX512:
        return cpu_best() >= CPU_AVX512;
    case ISA_AVX512BF16:
        return can_run(ISA_AVX512) && __builtin_cpu_supports("avx512bf16") &&
               __builtin_cpu_supports("avx512vbmi") && pairs_add_in_order();
    case ISA_AMX:
        return can_run(ISA_AVX512) && has_amx_bits(AMX_TILE | AMX_BF16) && tiles_allowed() &&
               tiles_add_in_order_amx();
    case ISA_COUNT:
        break;
    }
    return false;
}

/* Every rank and sampler asks; under a hypervisor the processor takes long to answer. */
const struct kernels *kernels_get(enum isa isa)
{
    enum { ASK, YES, NO };
    static _Atomic int known[ISA_COUNT];
    int answer = atomic_load_explicit(&known[isa], memory_order_relaxed);
    if (answer == ASK) {
        answer = can_run(isa) ? YES : NO;
        atomic_store_explicit(&known[isa], answer, memory_order_relaxed);
    }
    return answer == YES ? tables[isa] : NULL;
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
        {"amx_tile", has_amx_bits(AMX_TILE)},
        {"amx_bf16", has_amx_bits(AMX_BF16)},
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
    for (enum isa isa = ISA_SCALAR; isa < ISA_COUNT; isa++)
        if (strcmp(name, tables[isa]->name) == 0) {
            *out = isa;
            return true;
        }
    return false;
}
