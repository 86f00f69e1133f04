/* What this processor can do at most, by 1 and 2 threads: bytes read from memory, every way of
 * measure.h; additions and multiplications of each kind of instruction, from registers alone, and
 * of a loop of 2x2 tiles from the first-level cache. Prints lines of JSON; checks nothing.
 *
 * bench_limits [read|peaks [rounds]]
 */
#include "kernels.h"
#include "measure.h"
#include "mem.h"
#include "threads.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS_MAX = 2, ROUNDS_MAX = SAMPLES_MAX };

/* ---- instructions: chains enough that none waits (VDPBF16PS takes six cycles, and a processor
 * begins two in each); by hand, so that none is spilled ---- */

enum { CHAINS_256 = 10, CHAINS_512 = 20, TURNS = 1000000 };
/* A chain in each of ten registers. */
#define TEN(op, r, tens)                                                                           \
    op " %%" r "10,%%" r "11,%%" r tens "0\n" op " %%" r "10,%%" r "11,%%" r tens "1\n" op " %%" r \
       "10,%%" r "11,%%" r tens "2\n" op " %%" r "10,%%" r "11,%%" r tens "3\n" op " %%" r         \
       "10,%%" r "11,%%" r tens "4\n" op " %%" r "10,%%" r "11,%%" r tens "5\n" op " %%" r         \
       "10,%%" r "11,%%" r tens "6\n" op " %%" r "10,%%" r "11,%%" r tens "7\n" op " %%" r         \
       "10,%%" r "11,%%" r tens "8\n" op " %%" r "10,%%" r "11,%%" r tens "9\n"
/* Registers from 16 on are nobody else's here. */
#define PEAK(name, chains)                                                                         \
    static void name(void)                                                                         \
    {                                                                                              \
        __asm__ volatile("vxorps %%xmm10,%%xmm10,%%xmm10\nvxorps %%xmm11,%%xmm11,%%xmm11\n"        \
                         "mov %0,%%ecx\n1:\n" chains                                               \
                         "dec %%ecx\njnz 1b\nvzeroupper\n" ::"i"(TURNS)                            \
                         : "ecx", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",  \
                           "xmm8", "xmm9", "xmm10", "xmm11");                                      \
    }
#define PEAK_512(name, op) PEAK(name, TEN(op, "zmm", "") TEN(op, "zmm", "2"))
PEAK(fma_256, TEN("vfmadd231ps", "ymm", ""))
PEAK_512(fma_512, "vfmadd231ps")
PEAK_512(dot_bf16, "vdpbf16ps")
PEAK_512(dot_int8, "vpdpbusd")

/* ---- tiles: four loads and four products a turn, each of 16 x 16 x 32 ---- */

enum { TILE_TURNS = 100000, TILE_BYTES = 1024 };

static void tiles(void)
{
    _Alignas(64) static _Thread_local unsigned char data[4 * TILE_BYTES];
    _Alignas(64) unsigned char config[64] = {1};
    for (int t = 0; t < 8; t++) {
        config[16 + 2 * t] = 64; /* bytes of a row */
        config[48 + t] = 16;     /* rows */
    }
    __asm__ volatile("ldtilecfg (%0)\ntilezero %%tmm0\ntilezero %%tmm1\ntilezero %%tmm2\n"
                     "tilezero %%tmm3\nmov $64,%%eax\nmov %2,%%ecx\n1:\n"
                     "tileloadd (%1,%%rax,1),%%tmm4\ntileloadd 1024(%1,%%rax,1),%%tmm6\n"
                     "tdpbf16ps %%tmm6,%%tmm4,%%tmm0\ntileloadd 2048(%1,%%rax,1),%%tmm7\n"
                     "tdpbf16ps %%tmm7,%%tmm4,%%tmm1\ntileloadd 3072(%1,%%rax,1),%%tmm5\n"
                     "tdpbf16ps %%tmm6,%%tmm5,%%tmm2\ntdpbf16ps %%tmm7,%%tmm5,%%tmm3\n"
                     "dec %%ecx\njnz 1b\ntilerelease\n" ::"r"(config),
                     "r"(data), "i"(TILE_TURNS)
                     : "eax", "ecx", "memory");
}

static bool has(const char *what)
{
    return strcmp(what, "avx512") == 0 ? __builtin_cpu_supports("avx512f") != 0
           : strcmp(what, "vnni") == 0 ? __builtin_cpu_supports("avx512vnni") != 0
           : strcmp(what, "bf16") == 0 ? __builtin_cpu_supports("avx512bf16") != 0
           : strcmp(what, "tile") == 0 ? kernels_get(ISA_AMX) != NULL
                                       : __builtin_cpu_supports("fma") != 0;
}

static const struct instruction {
    const char *name, *needs;
    void (*run)(void);
    double giga; /* operations of a run, in 10^9 */
} instructions[] = {
    {"FMA 256", "fma", fma_256, 1e-9 * TURNS *CHAINS_256 * 16},
    {"FMA 512", "avx512", fma_512, 1e-9 * TURNS *CHAINS_512 * 32},
    {"VDPBF16PS", "bf16", dot_bf16, 1e-9 * TURNS *CHAINS_512 * 64},
    {"VPDPBUSD", "vnni", dot_int8, 1e-9 * TURNS *CHAINS_512 * 128},
    {"TDPBF16PS 2x2", "tile", tiles, 1e-9 * TILE_TURNS * 4 * 16384},
};
enum { INSTRUCTIONS = sizeof instructions / sizeof *instructions };

/* ---- threads that begin together; each times itself ---- */

static cpu_set_t allowed; /* as the program was begun */

struct job {
    const struct instruction *instruction; /* NULL: a read */
    const unsigned char *memory;
    size_t bytes;
    int way;
    struct barrier start;
    double begin[THREADS_MAX], end[THREADS_MAX];
    _Atomic uint64_t sink;
};

/* A processor of its own: a run is over before the system has parted two threads. */
static void stay(size_t index)
{
    cpu_set_t one;
    for (size_t cpu = 0, n = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && n++ == index) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            sched_setaffinity(0, sizeof one, &one); /* of this thread */
        }
}

static void work(void *arg, int index, int count)
{
    struct job *job = arg;
    stay((size_t)index);
    size_t share = job->bytes / (size_t)count;
    barrier_wait(&job->start, index);
    job->begin[index] = now();
    if (job->instruction)
        job->instruction->run();
    else
        job->sink += read_all(job->way, job->memory + share * (size_t)index, share);
    job->end[index] = now();
}

static double seconds(struct job *job, struct team *team)
{
    struct tp_error err = {0};
    if (!barrier_init(&job->start, team->count, &err))
        exit(tp_error_print("bench_limits", &err));
    team_call(team, work, job);
    barrier_free(&job->start);
    double begin = job->begin[0], end = job->end[0];
    for (int i = 1; i < team->count; i++) {
        begin = job->begin[i] < begin ? job->begin[i] : begin;
        end = job->end[i] > end ? job->end[i] : end;
    }
    return end - begin;
}

static void print(const char *what, int threads, const char *unit, const double *values, int n)
{
    char line[80];
    snprintf(line, sizeof line, "%s, %d thread%s", what, threads, threads > 1 ? "s" : "");
    print_samples(line, unit, values, n);
}

static void run_peaks(struct team *teams, int rounds)
{
    static double rates[INSTRUCTIONS][THREADS_MAX][ROUNDS_MAX];
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < INSTRUCTIONS; i++)
            for (int t = 0; t < THREADS_MAX && has(instructions[i].needs); t++) {
                struct job job = {.instruction = &instructions[i]};
                rates[i][t][round] = instructions[i].giga * (t + 1) / seconds(&job, &teams[t]);
            }
    for (int i = 0; i < INSTRUCTIONS; i++)
        for (int t = 0; t < THREADS_MAX && has(instructions[i].needs); t++)
            print(instructions[i].name, t + 1, "Gop/s", rates[i][t], rounds);
}

static bool run_reads(struct team *teams, int rounds, struct tp_error *err)
{
    static double rates[READ_WAYS][THREADS_MAX][ROUNDS_MAX];
    const size_t bytes = (size_t)1 << 30;
    unsigned char *memory = mem_map_alloc(bytes, err);
    if (!memory)
        return false;
    memset(memory, 1, bytes);
    for (int round = 0; round < rounds; round++)
        for (int way = 0; way < READ_WAYS; way++)
            for (int t = 0; t < THREADS_MAX; t++) {
                struct job job = {.memory = memory, .bytes = bytes, .way = way};
                rates[way][t][round] = (double)bytes * 1e-9 / seconds(&job, &teams[t]);
            }
    for (int t = 0; t < THREADS_MAX; t++)
        for (int way = 0; way < READ_WAYS; way++) {
            char what[64];
            snprintf(what, sizeof what, "read %s", read_way_name(way));
            print(what, t + 1, "GB/s", rates[way][t], rounds);
        }
    mem_map_free(memory, bytes);
    return true;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    int rounds = argc > 2 ? atoi(argv[2]) : 5;
    bool read = strcmp(what, "peaks") != 0, peaks = strcmp(what, "read") != 0;
    struct tp_error err = {0};
    struct team teams[THREADS_MAX];
    if ((*what && read && peaks) || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_limits [read|peaks [rounds]]\n");
        return 2;
    }
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        CPU_ZERO(&allowed);
    for (int t = 0; t < THREADS_MAX; t++)
        if (!team_start(&teams[t], t + 1, TEAM_STACK, &err))
            return tp_error_print("bench_limits", &err);
    if (read && !run_reads(teams, rounds, &err))
        return tp_error_print("bench_limits", &err);
    if (peaks)
        run_peaks(teams, rounds);
    for (int t = 0; t < THREADS_MAX; t++)
        team_stop(&teams[t]);
    return 0;
}
