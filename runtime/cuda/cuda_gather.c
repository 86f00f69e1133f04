/* What GPUs gather from each other by NCCL. */
#include "cuda_device.h"
#include "cuda_nccl.h"

#include "mem.h"

bool cuda_open_nccl(struct cuda_gpu *g, const void *id, struct tp_error *err)
{
    g->nccl = mem_alloc(sizeof *g->nccl, err);
    return g->nccl && cuda_nccl_open(g->nccl, id, g->n_gpus, g->number, err);
}

bool cuda_gather(struct cuda_gpu *g, float *all, uint64_t count, struct tp_error *err)
{
    const struct cuda *c = g->cuda;
    return CUDA(&c->api, err, cuMemsetD8Async, ((uintptr_t)g->mark + 3, 0x80, 1, c->stream)) &&
           cuda_nccl_all_gather(g->nccl, all + g->number * count, all, count, c->stream, err);
}

void cuda_close_nccl(struct cuda_gpu *g)
{
    if (g->nccl) {
        if (g->error.code != TP_OK)
            cuda_nccl_abort(g->nccl);
        cuda_nccl_close(g->nccl);
    }
    mem_free(g->nccl);
}
