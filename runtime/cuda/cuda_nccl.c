#include "cuda_nccl.h"

#include "cuda_library.h"

bool cuda_nccl_there(void)
{
    return nccl_api_there();
}

bool cuda_nccl_new_id(nccl_id *id, struct tp_error *err)
{
    struct nccl_api api;
    sigset_t before;
    library_block_signals(&before);
    bool ok = nccl_api_open(&api, err) && NCCL(&api, err, ncclGetUniqueId, (id));
    library_restore_signals(&before);
    nccl_api_close(&api); /* it stays in memory, and what answers the others with it */
    return ok;
}

bool cuda_nccl_open(struct cuda_nccl *n, const nccl_id *id, uint32_t ranks, uint32_t rank,
                    struct tp_error *err)
{
    sigset_t before;
    *n = (struct cuda_nccl){.ranks = ranks};
    library_block_signals(&before);
    bool ok = nccl_api_open(&n->api, err) &&
              NCCL(&n->api, err, ncclCommInitRank, (&n->comm, (int)ranks, *id, (int)rank));
    library_restore_signals(&before);
    if (ok)
        return true;
    n->comm = NULL;
    cuda_nccl_close(n);
    return false;
}

/* The communicator while nobody has aborted it. */
static nccl_comm comm_of(struct cuda_nccl *n, struct tp_error *err)
{
    nccl_comm comm = __atomic_load_n(&n->comm, __ATOMIC_ACQUIRE);
    if (!comm)
        tp_fail(err, TP_E_DEVICE, "--device cuda: NCCL: the ranks' exchange was aborted");
    return comm;
}

bool cuda_nccl_all_gather(struct cuda_nccl *n, const float *mine, float *all, uint64_t count,
                          cu_stream stream, struct tp_error *err)
{
    nccl_comm comm = comm_of(n, err);
    return comm && NCCL(&n->api, err, ncclAllGather, (mine, all, count, NCCL_F32, comm, stream));
}

bool cuda_nccl_check(struct cuda_nccl *n, struct tp_error *err)
{
    nccl_result result = NCCL_OK;
    nccl_comm comm = comm_of(n, err);
    return comm && NCCL(&n->api, err, ncclCommGetAsyncError, (comm, &result)) &&
           nccl_ok(&n->api, result, "ncclAllGather", err);
}

static nccl_comm take_comm(struct cuda_nccl *n)
{
    return __atomic_exchange_n(&n->comm, NULL, __ATOMIC_ACQ_REL);
}

void cuda_nccl_abort(struct cuda_nccl *n)
{
    nccl_comm comm = take_comm(n);
    if (comm)
        n->api.ncclCommAbort(comm);
}

void cuda_nccl_close(struct cuda_nccl *n)
{
    nccl_comm comm = take_comm(n);
    if (comm)
        n->api.ncclCommDestroy(comm);
    nccl_api_close(&n->api);
    *n = (struct cuda_nccl){0};
}
