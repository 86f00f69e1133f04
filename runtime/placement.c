#include "placement.h"

#include "comm.h"

enum { NOWHERE = UINT32_MAX };

static uint32_t nodes_of(const struct processor *processors, uint32_t n)
{
    uint32_t nodes = 0;
    for (uint32_t i = 0; i < n; i++)
        nodes = processors[i].node >= nodes ? processors[i].node + 1 : nodes;
    return nodes;
}

static uint64_t common_of(uint64_t a, uint64_t b)
{
    return b ? common_of(b, a % b) : a;
}

uint64_t placement_crews(uint32_t nodes, uint64_t tp_size, int threads)
{
    const uint64_t crews = common_of(nodes, tp_size);
    return (uint64_t)threads < crews ? common_of(crews, (uint64_t)threads) : crews;
}

/* Of several nodes a crew begins on the first. */
static uint32_t home_of(uint64_t crews, int thread, int threads, uint32_t nodes)
{
    return (uint32_t)(crew_with((uint64_t)threads, (uint64_t)thread, crews) * nodes / crews);
}

struct search {
    const struct processor *processors;
    uint32_t n;
    bool (*claim)(void *arg, uint32_t index);
    void *arg;
    bool asked[PLACEMENT_MAX];    /* of a processor */
    uint32_t busy[PLACEMENT_MAX]; /* processors of a core that have been */
};

/* A processor of this node on a core with so many busy ones. */
static uint32_t find(struct search *s, uint32_t node, uint32_t busy)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const struct processor *p = &s->processors[i];
        if (p->node != node || s->asked[i] || s->busy[p->core] != busy)
            continue;
        s->asked[i] = true;
        s->busy[p->core]++;
        if (s->claim(s->arg, i))
            return i;
    }
    return NOWHERE;
}

bool placement_of_processors(const struct processor *processors, uint32_t n, uint64_t tp_size,
                             int threads, bool (*claim)(void *arg, uint32_t index), void *arg,
                             uint32_t *of)
{
    struct search s = {.processors = processors, .n = n, .claim = claim, .arg = arg};
    const uint32_t nodes = nodes_of(processors, n);
    const uint64_t crews = placement_crews(nodes, tp_size, threads);
    int left = threads;
    if ((uint32_t)threads > n)
        return false;
    for (int t = 0; t < threads; t++)
        of[t] = NOWHERE;
    for (uint32_t busy = 0; left && busy < n; busy++)
        for (uint32_t away = 0; left && away < nodes; away++)
            for (int t = 0; t < threads; t++)
                if (of[t] == NOWHERE) {
                    uint32_t home = home_of(crews, t, threads, nodes);
                    of[t] = find(&s, (home + away) % nodes, busy);
                    left -= of[t] != NOWHERE;
                }
    return left == 0;
}

bool placement_of_nodes(const struct processor *processors, uint32_t n, uint64_t tp_size,
                        int threads, uint32_t *of)
{
    const uint32_t nodes = nodes_of(processors, n);
    const uint64_t crews = placement_crews(nodes, tp_size, threads);
    int room[PLACEMENT_MAX] = {0};
    for (uint32_t i = 0; i < n; i++)
        room[processors[i].node]++;
    bool fits = crews > 1;
    for (int t = 0; t < threads; t++) {
        of[t] = home_of(crews, t, threads, nodes);
        fits &= room[of[t]]-- > 0;
    }
    return fits;
}
