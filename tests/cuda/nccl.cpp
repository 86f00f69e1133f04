/* NCCL without a GPU: libnccl.so.2 for tests, beside the emulated driver (driver.cpp), as far as
 * runtime/cuda/nccl_api.h asks. Ranks are threads of this process, each with a stream of its own;
 * what is queued meets the others' when the streams are waited for. Who waits for a rank longer
 * than EMUL_DEADLINE milliseconds (20000) gives up: what it was has failed.
 */
#include "driver.h"
extern "C" {
#include "nccl_api.h"
}

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

/* What one all-gather of a group knows. */
struct round {
    std::vector<const float *> mine;
    size_t count = 0;
    unsigned come = 0, read = 0, gone = 0;
};
/* The ranks that have an id in common. */
struct group {
    unsigned ranks, come = 0;
    bool broken = false;
    std::vector<bool> taken;
    std::map<uint64_t, round> rounds;
};
/* A communicator; what is queued outlives its handle. */
struct member {
    std::shared_ptr<group> common;
    unsigned rank;
    uint64_t queued = 0;
    nccl_result error = NCCL_OK;
};
struct ncclComm {
    std::shared_ptr<member> self;
};

/* The library's own state lives as long as the process: threads may be waiting. */
static struct library {
    std::mutex mutex;
    std::condition_variable changed;
    std::map<std::string, std::shared_ptr<group>> groups;
    uint64_t ids = 0;
    int held = 0;
    ~library()
    {
        if (held)
            fprintf(stderr, "libnccl: %d communicators left\n", held);
    }
} nccl;

#define ENTER                                                                                      \
    if (emul_enter())                                                                              \
    return NCCL_CUDA_ERROR

typedef std::unique_lock<std::mutex> locked;

/* false: nobody came in time, or the group is broken */
template <class Condition> static bool wait_for(locked &lock, group &g, Condition condition)
{
    const char *text = getenv("EMUL_DEADLINE");
    const auto deadline =
        std::chrono::system_clock::now() + std::chrono::milliseconds(text ? atoi(text) : 20000);
    bool in_time = nccl.changed.wait_until(lock, deadline, [&] { return g.broken || condition(); });
    if (in_time && !g.broken)
        return true;
    g.broken = true;
    nccl.changed.notify_all();
    return false;
}

static bool meet(const member &me, uint64_t number, const float *mine, float *all, size_t count)
{
    locked lock(nccl.mutex);
    group &g = *me.common;
    round &r = g.rounds[number];
    r.mine.resize(g.ranks);
    if (r.come++ == 0)
        r.count = count;
    g.broken |= r.count != count;
    r.mine[me.rank] = mine;
    nccl.changed.notify_all();
    if (!wait_for(lock, g, [&] { return r.come == g.ranks; }))
        return false;
    for (unsigned i = 0; i < g.ranks; i++)
        if (all + i * count != r.mine[i])
            memcpy(all + i * count, r.mine[i], count * sizeof(float));
    /* what is another's to read stays until all have read */
    r.read++;
    nccl.changed.notify_all();
    if (!wait_for(lock, g, [&] { return r.read == g.ranks; }))
        return false;
    if (++r.gone == g.ranks)
        g.rounds.erase(number);
    return true;
}

static nccl_result give_back(nccl_comm comm, bool broken)
{
    locked lock(nccl.mutex);
    comm->self->common->broken |= broken;
    nccl.changed.notify_all();
    nccl.held--;
    delete comm;
    return NCCL_OK;
}

extern "C" {
#pragma GCC visibility push(default)

const char *ncclGetErrorString(nccl_result result)
{
    return result == NCCL_CUDA_ERROR     ? "unhandled cuda error"
           : result == NCCL_REMOTE_ERROR ? "remote process exited or there was a network error"
                                         : "invalid argument";
}
nccl_result ncclGetUniqueId(nccl_id *id)
{
    ENTER;
    locked lock(nccl.mutex);
    memset(id, 0, sizeof *id);
    snprintf(id->bytes, sizeof id->bytes, "emulated %llu", (unsigned long long)++nccl.ids);
    return NCCL_OK;
}
nccl_result ncclCommInitRank(nccl_comm *comm, int ranks, nccl_id id, int rank)
{
    ENTER;
    locked lock(nccl.mutex);
    std::shared_ptr<group> &common = nccl.groups[std::string(id.bytes, sizeof id.bytes)];
    if (!common) {
        common = std::make_shared<group>();
        common->ranks = (unsigned)ranks;
        common->taken.resize((size_t)ranks);
    }
    std::shared_ptr<group> g = common;
    if (strncmp(id.bytes, "emulated ", 9) || rank < 0 || (unsigned)rank >= g->ranks ||
        (unsigned)ranks != g->ranks || g->taken[(size_t)rank])
        return 4;
    g->taken[(size_t)rank] = true;
    g->come++;
    nccl.changed.notify_all();
    if (!wait_for(lock, *g, [&] { return g->come == g->ranks; }))
        return NCCL_REMOTE_ERROR;
    nccl.held++;
    *comm = new ncclComm{std::make_shared<member>(member{g, (unsigned)rank})};
    return NCCL_OK;
}
nccl_result ncclCommGetAsyncError(nccl_comm comm, nccl_result *error)
{
    ENTER;
    locked lock(nccl.mutex);
    *error = comm->self->error;
    return NCCL_OK;
}
nccl_result ncclCommAbort(nccl_comm comm)
{
    return give_back(comm, true);
}
nccl_result ncclCommDestroy(nccl_comm comm)
{
    return give_back(comm, false);
}
nccl_result ncclAllGather(const void *mine, void *all, size_t count, unsigned type, nccl_comm comm,
                          cu_stream stream)
{
    ENTER;
    const std::shared_ptr<member> self = comm->self;
    const unsigned ranks = self->common->ranks;
    const char *begin = (const char *)all, *end = begin + ranks * count * sizeof(float),
               *own = begin + self->rank * count * sizeof(float);
    if (type != NCCL_F32 || !count || (uintptr_t)mine % 4 || (uintptr_t)all % 4 ||
        !emul_owns(mine, count * sizeof(float)) || !emul_owns(all, (size_t)(end - begin)) ||
        (mine != own && (const char *)mine < end && (const char *)mine + count * 4 > begin))
        return 4;
    locked lock(nccl.mutex);
    const uint64_t number = self->queued++;
    lock.unlock();
    emul_put(stream, [=] {
        bool ok = meet(*self, number, (const float *)mine, (float *)all, count);
        locked again(nccl.mutex);
        if (!ok)
            self->error = NCCL_REMOTE_ERROR;
    });
    return NCCL_OK;
}
}
