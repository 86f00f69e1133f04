/* Where threads of a team are put: arithmetic alone, over processors with a core and a node of
 * memory each. Crews of ranks and threads (comm.h) are spread over the nodes; threads of a crew
 * begin on its node. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { PLACEMENT_MAX = 1024 }; /* threads, processors */

struct processor {
    uint32_t number;     /* the system's */
    uint32_t core, node; /* from 0 on, below PLACEMENT_MAX */
};

/* How many crews: as many as share ranks and nodes evenly, and of threads have one at least. */
uint64_t placement_crews(uint32_t nodes, uint64_t tp_size, int threads);

/* A processor for each thread, of[t] an index of processors. Cores that have nothing to do yet come
 * first, those of the crew's node before others, then their siblings in the same order. claim says,
 * at most once for each, whether a processor may be had; one that may not keeps its core busy.
 * false: there are not enough; all that was claimed is in no list. */
bool placement_of_processors(const struct processor *processors, uint32_t n, uint64_t tp_size,
                             int threads, bool (*claim)(void *arg, uint32_t index), void *arg,
                             uint32_t *of);

/* A node for each thread, of[t], that of its crew. false: there is one crew, or a node would have
 * more threads than processors; then nothing is gained. */
bool placement_of_nodes(const struct processor *processors, uint32_t n, uint64_t tp_size,
                        int threads, uint32_t *of);
