/* Ranks on GPUs of this machine exchange floats, by NCCL: a communicator for each GPU, made and
 * used by that GPU's own thread. */
#pragma once
#include "nccl_api.h"

struct cuda_nccl {
    struct nccl_api api;
    nccl_comm comm; /* NULL: none, or aborted; whoever takes it gives it back */
    uint32_t ranks;
};

/* Is the library there? It is not opened. */
bool cuda_nccl_there(void);
/* What the ranks of one group have in common: made by one of them, given to all. Opens the library:
 * TP_E_UNSUPPORTED, TP_E_DEVICE. */
bool cuda_nccl_new_id(nccl_id *id, struct tp_error *err);
/* From the GPU's own thread, its context current. Blocks until all ranks have come, and for ever
 * where one does not: ranks first agree by other means that they all will. A failed open leaves
 * nothing to close. TP_E_UNSUPPORTED, TP_E_DEVICE. */
bool cuda_nccl_open(struct cuda_nccl *nccl, const nccl_id *id, uint32_t ranks, uint32_t rank,
                    struct tp_error *err);
/* all[r * count ...]: the count floats that rank r has at mine, which may be at their place in all.
 * Queued on the stream; every rank does it, in the same order. TP_E_DEVICE. */
bool cuda_nccl_all_gather(struct cuda_nccl *nccl, const float *mine, float *all, uint64_t count,
                          cu_stream stream, struct tp_error *err);
/* Has something failed since, of what was queued? TP_E_DEVICE. Asked behind waiting for the stream:
 * which does not fail itself where NCCL does. */
bool cuda_nccl_check(struct cuda_nccl *nccl, struct tp_error *err);
/* Ends what is queued, so that nobody waits for a rank that does not come: any thread, while the
 * communicator's own waits for its stream. That one then finds nothing left but to close. */
void cuda_nccl_abort(struct cuda_nccl *nccl);
/* Every rank does it, when its stream has been waited for; where something has failed it is aborted
 * first, for closing waits for the others. {0} is allowed. */
void cuda_nccl_close(struct cuda_nccl *nccl);
