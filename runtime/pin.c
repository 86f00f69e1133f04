#include "pin.h"

#include "comm.h"
#include "processors.h"
#include <fcntl.h>
#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* ---- the machine ---- */

static uint32_t node_of(struct pin_machine *m, hwloc_obj_t processor)
{
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(m->topology, HWLOC_OBJ_NUMANODE, node)))
        if (hwloc_bitmap_isset(node->cpuset, processor->os_index))
            break;
    const uint32_t number = node ? node->os_index : 0;
    uint32_t i = 0;
    while (i < m->n_nodes && m->nodes[i] != number)
        i++;
    m->nodes[i] = number;
    m->n_nodes += i == m->n_nodes;
    return i;
}

/* Siblings lie side by side. */
static void list_processors(struct pin_machine *m, hwloc_const_bitmap_t allowed)
{
    hwloc_obj_t at = NULL, core = NULL;
    while (m->n < PLACEMENT_MAX &&
           (at = hwloc_get_next_obj_by_type(m->topology, HWLOC_OBJ_PU, at))) {
        if (!hwloc_bitmap_isset(allowed, at->os_index))
            continue;
        hwloc_obj_t of = hwloc_get_ancestor_obj_by_type(m->topology, HWLOC_OBJ_CORE, at);
        m->n_cores += !of || of != core;
        core = of;
        m->processors[m->n++] = (struct processor){at->os_index, m->n_cores - 1, node_of(m, at)};
    }
}

/* Caches and devices are of no interest, and what asks each processor by itself takes
 * longer than all else. */
bool pin_machine_open(struct pin_machine *m)
{
    memset(m, 0, sizeof *m);
    if (hwloc_topology_init(&m->topology) != 0)
        return false;
    hwloc_topology_set_all_types_filter(m->topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    hwloc_topology_set_type_filter(m->topology, HWLOC_OBJ_CORE, HWLOC_TYPE_FILTER_KEEP_ALL);
    /* what a node hangs on, else it is the whole machine's */
    hwloc_topology_set_type_filter(m->topology, HWLOC_OBJ_GROUP, HWLOC_TYPE_FILTER_KEEP_STRUCTURE);
    hwloc_topology_set_components(m->topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
    hwloc_bitmap_t allowed = hwloc_bitmap_alloc_full();
    bool ok = allowed && hwloc_topology_load(m->topology) == 0 &&
              (!hwloc_topology_is_thissystem(m->topology) ||
               hwloc_get_cpubind(m->topology, allowed, HWLOC_CPUBIND_THREAD) == 0);
    if (ok)
        list_processors(m, allowed);
    else
        pin_machine_close(m);
    hwloc_bitmap_free(allowed);
    return ok;
}

void pin_machine_close(struct pin_machine *m)
{
    if (m->topology)
        hwloc_topology_destroy(m->topology);
    m->topology = NULL;
}

/* ---- who goes where ---- */

static bool several_nodes(void)
{
    return processors_nodes() > 1 || getenv("HWLOC_SYNTHETIC") || getenv("HWLOC_XMLFILE");
}

/* A lock that the kernel takes back however a process ends. */
static bool claim(void *arg, uint32_t index)
{
    struct pin *pin = arg;
    char path[64];
    if (!hwloc_topology_is_thissystem(pin->machine.topology))
        return true;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u",
             pin->machine.processors[index].number);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) /* nobody can say that it is taken */
        return true;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return false;
    }
    pin->claims[pin->n_claims++] = fd;
    return true;
}

static void drop_claims(struct pin *pin)
{
    while (pin->n_claims)
        close(pin->claims[--pin->n_claims]);
}

static void bind_thread(void *arg, int thread, int threads)
{
    const struct pin *pin = arg;
    const struct pin_machine *m = &pin->machine;
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    (void)threads;
    for (uint32_t i = 0; set && i < m->n; i++)
        if (pin->how == PINNED_PROCESSORS ? i == pin->of[thread]
                                          : m->processors[i].node == pin->of[thread])
            hwloc_bitmap_set(set, m->processors[i].number);
    if (set)
        hwloc_set_cpubind(m->topology, set, HWLOC_CPUBIND_THREAD);
    hwloc_bitmap_free(set);
}

void pin_open(struct pin *pin, enum pin_mode mode, uint64_t tp_size, struct team *team)
{
    struct pin_machine *m = &pin->machine;
    *pin = (struct pin){.tp_size = tp_size, .crews = 1, .threads = team->count};
    if (mode == PIN_NO || (mode == PIN_AUTO && (tp_size == 1 || !several_nodes())))
        return;
    const bool known = pin_machine_open(m);
    if (known && mode == PIN_YES &&
        placement_of_processors(m->processors, m->n, tp_size, team->count, claim, pin, pin->of))
        pin->how = PINNED_PROCESSORS;
    else if (known && mode == PIN_AUTO &&
             placement_of_nodes(m->processors, m->n, tp_size, team->count, pin->of))
        pin->how = PINNED_NODES;
    if (pin->how != PINNED_NOT) {
        pin->crews = placement_crews(m->n_nodes, tp_size, team->count);
        team_call(team, bind_thread, pin);
        return;
    }
    drop_claims(pin);
    pin_machine_close(m);
    if (mode == PIN_YES)
        tp_note("--pin yes: not every thread of %d can have a processor of its own; none is pinned",
                team->count);
}

uint32_t pin_place(const struct pin *pin, int thread)
{
    uint32_t at = pin->of[thread];
    return pin->how == PINNED_PROCESSORS ? pin->machine.processors[at].number
                                         : pin->machine.nodes[at];
}

/* The node that all threads of a rank's crew are on; UINT32_MAX: there is none. */
static uint32_t node_of_rank(const struct pin *pin, uint64_t rank)
{
    const struct range threads =
        crew_range((uint64_t)pin->threads, crew_with(pin->tp_size, rank, pin->crews), pin->crews);
    uint32_t node = UINT32_MAX;
    for (uint64_t t = threads.begin; t < threads.end; t++) {
        uint32_t at = pin->of[t];
        uint32_t here = pin->how == PINNED_PROCESSORS ? pin->machine.processors[at].node : at;
        if (node != UINT32_MAX && node != here)
            return UINT32_MAX;
        node = here;
    }
    return node;
}

/* Preferred, not demanded: a node that is full leaves the rest to others. */
void pin_memory(const struct pin *pin, uint64_t rank, void *p, uint64_t bytes)
{
    if (pin->how == PINNED_NOT || pin->machine.n_nodes == 1)
        return;
    uint32_t node = node_of_rank(pin, rank);
    hwloc_obj_t there =
        node == UINT32_MAX
            ? NULL
            : hwloc_get_numanode_obj_by_os_index(pin->machine.topology, pin->machine.nodes[node]);
    if (there)
        hwloc_set_area_membind(pin->machine.topology, p, bytes, there->nodeset, HWLOC_MEMBIND_BIND,
                               HWLOC_MEMBIND_BYNODESET);
}

void pin_close(struct pin *pin)
{
    const struct pin_machine *m = &pin->machine;
    hwloc_bitmap_t all = pin->how == PINNED_NOT ? NULL : hwloc_bitmap_alloc();
    for (uint32_t i = 0; all && i < m->n; i++)
        hwloc_bitmap_set(all, m->processors[i].number);
    if (all)
        hwloc_set_cpubind(m->topology, all, HWLOC_CPUBIND_THREAD);
    hwloc_bitmap_free(all);
    drop_claims(pin);
    pin_machine_close(&pin->machine);
    *pin = (struct pin){0};
}
