/* Who computes which panels of the matrices of a phase. Threads of a crew have shares, side by
 * side, however many ranks the matrices are of. Each takes half of what is left of its own at a
 * time, and then of the others' in the same way: a core that is slower, or shared with another
 * program, is not waited for longer than that.
 *
 * Takings are counted in turns. The word of a share names the turn that it is about: an older one
 * says that nothing is taken yet, a newer one that everything is, for no thread comes to a turn
 * before all shares of the one before are taken.
 */
#include "cpu.h"

#include "checked.h"

/* Shares of fewer units are not worth a look at the others'. */
enum { UNITS_WORTH = 4 };

const struct cpu_job *cpu_job_at(const struct cpu_job *jobs, uint64_t *panel)
{
    for (; *panel >= jobs->w->panels; jobs++)
        *panel -= jobs->w->panels;
    return jobs;
}

/* Where a share is begun. In the first pass that is at a chunk of a matrix: what the share has of
 * the chunk before comes last, when the thread before has hashed what is before that. */
static uint64_t first_panel(const struct cpu_job *jobs, struct range panels)
{
    if (panels.begin == panels.end)
        return panels.begin;
    uint64_t panel = panels.begin;
    const struct matrix *w = cpu_job_at(jobs, &panel)->w;
    const uint64_t chunk = min_u64(align_up(panel, w->chunk_panels), w->panels);
    return min_u64(panels.begin + chunk - panel, panels.end);
}

struct taking cpu_taking(const struct cpu_crew *crew, const struct cpu_job *jobs, uint64_t n_jobs,
                         struct share share, uint64_t unit)
{
    struct taking t = {.unit = unit, .share = share};
    const bool first_pass = n_jobs && jobs->rank->weights->pass;
    for (uint64_t i = 0; i < n_jobs; i++)
        t.n += jobs[i].w->panels;
    if (!first_pass && share.parts > 1 && t.n >= UNITS_WORTH * unit * share.parts) {
        t.parts = crew->taken;
        t.turn = ++t.parts[share.part].turn;
    } else {
        const struct range mine = share_of(t.n, share);
        const uint64_t first = first_pass ? first_panel(jobs, mine) : mine.begin;
        t.ranges[0] = (struct range){first, mine.end};
        t.ranges[1] = (struct range){mine.begin, first};
    }
    return t;
}

/* In whole units, as long as there are such. */
static uint64_t half_of(uint64_t left, uint64_t unit)
{
    return min_u64(align_up(div_ceil(left, 2), unit), left);
}

static bool take_of(struct cpu_part *part, uint32_t turn, struct range share, uint64_t unit,
                    struct range *panels)
{
    uint64_t word = atomic_load_explicit(&part->taken, memory_order_relaxed);
    do {
        const int32_t later = (int32_t)((uint32_t)(word >> 32) - turn);
        panels->begin = share.begin + (later < 0 ? 0 : word & UINT32_MAX);
        if (later > 0 || panels->begin >= share.end)
            return false;
        panels->end = panels->begin + half_of(share.end - panels->begin, unit);
    } while (!atomic_compare_exchange_weak_explicit(
        &part->taken, &word, (uint64_t)turn << 32 | (panels->end - share.begin),
        memory_order_relaxed, memory_order_relaxed));
    return true;
}

static bool take_own(struct taking *t, struct range *panels)
{
    do {
        if (t->next == 2)
            return false;
        *panels = t->ranges[t->next++];
    } while (panels->begin >= panels->end);
    return true;
}

bool cpu_take(struct taking *t, struct range *panels)
{
    if (!t->parts)
        return take_own(t, panels);
    for (; t->next < t->share.parts; t->next++) {
        const struct share other = {(t->share.part + t->next) % t->share.parts, t->share.parts};
        if (take_of(&t->parts[other.part], t->turn, share_of(t->n, other), t->unit, panels))
            return true;
    }
    return false;
}
