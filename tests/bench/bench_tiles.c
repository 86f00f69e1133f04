/* How fast dot_rows of "amx" is beside what the tile unit can do at the moment: a loop of 2x2 tiles
 * from the first-level cache, four loads and four products a turn, before and after every run.
 *
 * The unit has two states that flip within milliseconds: quiet, or four times slower while the other
 * thread of its core is busy. A run whose loops before and after agree is named by its state; for
 * each state the median of GFLOP/s and of the share of the loop's. Prints a table; checks nothing.
 *
 * bench_tiles [rounds]
 */
#include "kernels.h"
#include "measure.h"
#include "mem.h"
#include "threads.h"
#include "tile.h"

#include <stdio.h>
#include <stdlib.h>

enum { BLOCKS = 64, PANELS = 176, ROWS = 128, ROUNDS_MAX = 999, TURNS = 5000, POOL = 1 << 30 };
/* GFLOP/s of the loop: more is quiet, less is busy; a processor at 2 GHz comes to 2,000 and 500. */
enum { QUIET_FROM = 1200, BUSY_TO = 900 };

static double loop_rate(void)
{
    static _Alignas(4096) unsigned char operands[4 * 4 * TILE_BYTES];
    tile_configure();
    double begin = now();
    for (int i = 0; i < TURNS; i++) {
        const unsigned char *a = operands + i % 4 * 4 * TILE_BYTES;
        tile_load(4, a);
        tile_load(6, a + TILE_BYTES);
        tile_dot(0, 4, 6);
        tile_load(7, a + 2 * TILE_BYTES);
        tile_dot(1, 4, 7);
        tile_load(5, a + 3 * TILE_BYTES);
        tile_dot(2, 5, 6);
        tile_dot(3, 5, 7);
    }
    double seconds = now() - begin;
    tile_release();
    return 2.0 * TURNS * 4 * TILE_ROWS * 16 * 32 / seconds * 1e-9;
}

enum state { QUIET, BUSY, CHANGING, STATES };
static const char *const names[STATES] = {"quiet", "busy", "changing"};

static enum state state_of(double before, double after)
{
    return before > QUIET_FROM && after > QUIET_FROM ? QUIET
           : before < BUSY_TO && after < BUSY_TO     ? BUSY
                                                     : CHANGING;
}

struct job {
    const struct kernels *kernels;
    const char *weights;
    size_t at; /* in them: every run takes weights that no cache has */
    const float *x, *sums;
    uint32_t *packed;
    float *out;
    void *room;
    int rounds;
};

/* GFLOP/s of [ROWS][BLOCKS * 32] by PANELS panels. */
static double rows_rate(struct job *job, const struct stored *stored)
{
    const struct kernels *k = job->kernels;
    const struct range row = {0, BLOCKS * BLOCK_COLS};
    const size_t panel = stored_words(stored, row) * 64;
    job->at = job->at + PANELS * panel > POOL ? 0 : job->at;
    double begin = now();
    k->rows_begin();
    k->pack_rows(job->x, BLOCKS * BLOCK_COLS, BLOCKS, ROWS, job->packed);
    for (size_t p = 0; p < PANELS; p += k->run_panels)
        k->dot_rows[stored->id](job->weights + job->at + p * panel, panel, k->run_panels,
                                stored_pieces(stored, row), job->packed, BLOCKS, 0, job->sums, ROWS,
                                job->out + p * PANEL_ROWS, PANELS * PANEL_ROWS, job->room);
    k->rows_end();
    job->at += PANELS * panel;
    return 2.0 * ROWS * BLOCKS * BLOCK_COLS * PANELS * PANEL_ROWS / (now() - begin) * 1e-9;
}

static void measure(struct job *job, const struct stored *stored)
{
    static double rate[STATES][ROUNDS_MAX], loop[STATES][ROUNDS_MAX], share[STATES][ROUNDS_MAX];
    int n[STATES] = {0};
    for (int i = 0; i < job->rounds; i++) {
        double before = loop_rate(), got = rows_rate(job, stored), after = loop_rate();
        enum state state = state_of(before, after);
        rate[state][n[state]] = got;
        loop[state][n[state]] = (before + after) / 2;
        share[state][n[state]] = got / loop[state][n[state]];
        n[state]++;
    }
    for (int s = 0; s < STATES; s++)
        if (n[s])
            printf("%-13s M %d  %-8s %4d runs  %7.1f GFLOP/s  2x2 loop %7.1f  ratio %.2f\n",
                   stored->name, ROWS, names[s], n[s], median(rate[s], n[s]), median(loop[s], n[s]),
                   median(share[s], n[s]));
}

int main(int argc, char **argv)
{
    struct tp_error err = {0};
    struct job job = {.kernels = kernels_get(ISA_AMX), .rounds = argc > 1 ? atoi(argv[1]) : 99};
    job.rounds = job.rounds < 1 ? 1 : job.rounds > ROUNDS_MAX ? ROUNDS_MAX : job.rounds;
    if (!job.kernels) {
        printf("this processor has no tile unit, or the system keeps it\n");
        return 0;
    }
    char *weights = mem_map_alloc(POOL, &err);
    float *x = mem_map_alloc(ROWS * BLOCKS * BLOCK_COLS * sizeof *x, &err);
    job.packed = mem_map_alloc(packed_words(BLOCKS, ROWS) * 4, &err);
    job.out = mem_map_alloc(ROWS * PANELS * PANEL_ROWS * sizeof *job.out, &err);
    job.room = mem_map_alloc(job.kernels->rows_room, &err);
    job.sums = mem_map_alloc(ROWS * BLOCKS * sizeof *job.sums, &err);
    if (!weights || !x || !job.packed || !job.out || !job.room || !job.sums)
        return tp_error_print("bench_tiles", &err);
    for (size_t i = 0; i < POOL; i += 4) /* normal numbers in every format */
        memcpy(weights + i, &(uint32_t){(uint32_t)(i / 4 * 2654435761u & 0xbfbfbfbf) | 0x20202020},
               4);
    for (size_t i = 0; i < ROWS * BLOCKS * BLOCK_COLS; i++)
        x[i] = (float)(int)(i % 97) * 0.25f - 12;
    job.weights = weights;
    job.x = x;
    threads_set_fp_mode();
    for (unsigned id = STORED_BF16; id < STORED_COUNT; id++)
        measure(&job, stored_of(id));
    return 0;
}
