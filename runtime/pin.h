/* Threads and memory bound to where they are best: what the machine has, by hwloc, within what this
 * process is allowed; placement.h says who goes where. Nothing that a run computes depends on it,
 * and where the system refuses, threads go where it puts them.
 *
 * yes    each thread has a processor of its own. A processor that another such process has is left
 *        to it, for which its folder in /sys is locked; where too few are left nothing is bound
 * auto   where nodes of memory have crews (comm.h): the threads of one have the processors of its
 *        node, among which the system moves them; else as no
 */
#pragma once
#include "placement.h"
#include "threads.h"

enum pin_mode { PIN_AUTO, PIN_YES, PIN_NO };
enum pin_how { PINNED_NOT, PINNED_PROCESSORS, PINNED_NODES };

/* The processors that this process may use. */
struct pin_machine {
    struct hwloc_topology *topology;
    uint32_t n, n_cores, n_nodes;
    struct processor processors[PLACEMENT_MAX];
    uint32_t nodes[PLACEMENT_MAX]; /* the system's number of each */
};
/* false: not known; there is nothing to close. HWLOC_SYNTHETIC and HWLOC_XMLFILE name another
 * machine, on which nothing is bound: for tests. */
bool pin_machine_open(struct pin_machine *machine);
void pin_machine_close(struct pin_machine *machine);

struct pin {
    struct pin_machine machine;
    enum pin_how how;
    uint64_t tp_size, crews; /* one, where nothing is bound */
    int threads;
    uint32_t of[PLACEMENT_MAX]; /* of a thread: an index of processors; PINNED_NODES: a node */
    int claims[PLACEMENT_MAX], n_claims;
};
/* Before the threads touch their memory. A note says where PIN_YES is not to be had. */
void pin_open(struct pin *pin, enum pin_mode mode, uint64_t tp_size, struct team *team);
/* Memory that a rank alone uses, on its node, where those of its crew have one; not touched yet. */
void pin_memory(const struct pin *pin, uint64_t rank, void *p, uint64_t bytes);
/* What a thread is bound to: the system's number of a processor, or that of a node. */
uint32_t pin_place(const struct pin *pin, int thread);
/* The caller's thread, which is the team's first, is free again. {0} may be closed. */
void pin_close(struct pin *pin);
