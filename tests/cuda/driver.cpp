/* A CUDA driver without a GPU: libcuda.so.1 for tests, with the emulated device behind it.
 *
 * What is put into a stream runs when somebody waits for it, not before, so that a buffer that is
 * used too early shows. Allocations are heap blocks of their own, full of NaN at first. Calls go to
 * the device whose context is the thread's; streams of several devices run at once, each in the
 * thread that waits for it.
 *
 * EMUL_SEED=N order of threads (emul.h); EMUL_SMS=N multiprocessors; EMUL_MEMORY=BYTES of each;
 * EMUL_DEVICES=N; EMUL_OLD=1 no early launches in graphs; EMUL_NO_PEERS=1;
 * EMUL_HANG=D:K the K-th launch on device D never ends; EMUL_LAG=D:K:MS it takes that long;
 * EMUL_DIE=D:K it is the last, calls fail from then on; EMUL_STOP=D:K the thread that waits for it
 * stops for good;
 * EMUL_LAZY=N streams but the first N run at once what is put into them: what does not wait for
 * another stream's work does it too early;
 * EMUL_FAIL=K[:RESULT] the K-th call fails, EMUL_LOST=K all from the K-th on; EMUL_REPORT=FILE
 * gets a line when the process ends: calls, launches, bytes that came to the host, and what was
 * never given back.
 */
#include "driver.h"
#include "emul.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <stdio.h>
#include <stdlib.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>
#include <vector>

typedef std::function<void()> op;

/* Recursive. Streams of one thread wait for each other in any order, which no sanitizer shall take
 * for locks in any order. */
struct stream_lock {
    std::atomic<pthread_t> owner{0};
    int depth = 0;
    void lock()
    {
        pthread_t none = 0;
        if (owner.load() != pthread_self())
            while (!owner.compare_exchange_weak(none, pthread_self())) {
                none = 0;
                sched_yield();
            }
        depth++;
    }
    void unlock()
    {
        if (--depth == 0)
            owner.store(0);
    }
};

struct CUstream_st {
    int device;
    bool hangs;
    stream_lock running;
    std::deque<op> queue;
    uint64_t put, done; /* ops so far */
    struct CUgraph_st *capture;
    bool at_once;
};
struct CUevent_st {
    CUstream_st *stream;
    uint64_t at;
};
struct CUgraph_st {
    std::vector<op> ops;
};
struct CUgraphExec_st {
    std::vector<op> ops;
};
struct CUfunc_st {
    const emul_entry *entry;
    int shared;
};
struct CUmod_st {
    std::vector<CUfunc_st *> functions;
};
enum { DEVICES_MAX = 16 };
struct CUctx_st {
    int device;
    uint64_t bytes;
    std::atomic<uint64_t> launches; /* that ran */
    std::atomic<bool> dead;
};
static thread_local CUctx_st *current;

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static struct driver {
    std::recursive_mutex mutex;
    struct block {
        size_t bytes;
        CUctx_st *context;
    };
    std::map<uintptr_t, block> blocks;
    std::map<uintptr_t, size_t> pinned;
    std::vector<CUstream_st *> open, closed; /* for which others may still wait */
    uint64_t calls = 0, to_host = 0;
    int contexts = 0, streams = 0, events = 0, graphs = 0, modules = 0;
    CUctx_st devices[DEVICES_MAX] = {};
    ~driver()
    {
        uint64_t launches = 0;
        for (const CUctx_st &device : devices)
            launches += device.launches;
        const char *path = getenv("EMUL_REPORT");
        FILE *f = path ? fopen(path, "w") : NULL;
        if (f)
            fprintf(f,
                    "calls %llu launches %llu to host %llu left: blocks %zu pinned %zu contexts %d "
                    "streams %d "
                    "events %d graphs %d modules %d\n",
                    (unsigned long long)calls, (unsigned long long)launches,
                    (unsigned long long)to_host, blocks.size(), pinned.size(), contexts, streams,
                    events, graphs, modules);
        if (f)
            fclose(f);
        for (CUstream_st *s : closed)
            delete s;
    }
} driver;

/* Counts the call; the result that a test wants of it. */
static cu_result entered()
{
    const char *fail = getenv("EMUL_FAIL"), *colon = fail ? strchr(fail, ':') : NULL;
    driver.calls++;
    if (fail && driver.calls == strtoull(fail, NULL, 10))
        return colon ? (cu_result)atoi(colon + 1) : 719;
    return driver.calls >= number("EMUL_LOST", UINT64_MAX) ? 719 : CU_OK;
}
#define ENTER                                                                                      \
    std::lock_guard<std::recursive_mutex> lock(driver.mutex);                                      \
    if (cu_result failed = entered())                                                              \
    return failed

/* ENTER for what needs a context */
#define ENTER_CONTEXT                                                                              \
    ENTER;                                                                                         \
    if (!current)                                                                                  \
        return 201;                                                                                \
    if (current->dead)                                                                             \
    return 719

/* NAME=D:K of this device, and K is its launch: the third number, else 0. */
static bool planned(const char *name, int device, uint64_t launch, unsigned *third)
{
    const char *text = getenv(name);
    int d;
    unsigned k;
    *third = 0;
    return text && sscanf(text, "%d:%u:%u", &d, &k, third) >= 2 && d == device && k == launch;
}

static void drain(CUstream_st *s, uint64_t until);
static void put(CUstream_st *s, op f)
{
    std::lock_guard<stream_lock> lock(s->running);
    if (s->capture) {
        s->capture->ops.push_back(f);
        return;
    }
    s->queue.push_back(f);
    s->put++;
    if (s->at_once)
        drain(s, s->put);
}

/* Without driver.mutex: others go on. */
static void drain(CUstream_st *s, uint64_t until)
{
    std::lock_guard<stream_lock> lock(s->running);
    std::vector<op> kept; /* a kernel's threads read their arguments until they are waited for */
    while (s->done < until && !s->hangs && !driver.devices[s->device].dead) {
        kept.push_back(s->queue.front());
        s->queue.pop_front();
        s->done++;
        kept.back()();
    }
    emul_sync();
}

/* As documented: memory is not given back before what uses it has ended. */
static void drain_all()
{
    std::vector<CUstream_st *> open;
    {
        std::lock_guard<std::recursive_mutex> lock(driver.mutex);
        open = driver.open;
    }
    for (CUstream_st *s : open)
        drain(s, s->put);
}

static void run_kernel(CUstream_st *s, const emul_launch &launch, const emul_entry &entry,
                       const void *arguments)
{
    CUctx_st &device = driver.devices[s->device];
    const uint64_t k = ++device.launches;
    unsigned more;
    if (planned("EMUL_STOP", s->device, k, &more))
        for (;;)
            pause();
    if (planned("EMUL_LAG", s->device, k, &more))
        usleep(more * 1000);
    device.dead = device.dead || planned("EMUL_DIE", s->device, k, &more);
    s->hangs = planned("EMUL_HANG", s->device, k, &more);
    if (!s->hangs && !device.dead)
        emul_run(launch, entry, arguments);
}

/* ---- for stand-ins of other libraries ---- */

unsigned emul_enter()
{
    ENTER;
    return CU_OK;
}
bool emul_owns(const void *p, size_t bytes)
{
    std::lock_guard<std::recursive_mutex> lock(driver.mutex);
    auto next = driver.blocks.upper_bound((uintptr_t)p);
    if (next == driver.blocks.begin())
        return false;
    auto block = std::prev(next);
    const size_t at = (uintptr_t)p - block->first, all = block->second.bytes;
    return at <= all && bytes <= all - at;
}
void emul_put(cu_stream stream, op f)
{
    put(stream, [=] {
        emul_sync();
        f();
    });
}

extern "C" {
#pragma GCC visibility push(default)

cu_result cuInit(unsigned)
{
    ENTER;
    emul_seed(number("EMUL_SEED", 0));
    return number("EMUL_DEVICES", 1) ? CU_OK : CU_NO_DEVICE;
}
cu_result cuDriverGetVersion(int *version)
{
    ENTER;
    *version = 12080;
    return CU_OK;
}
cu_result cuGetErrorName(cu_result result, const char **name)
{
    *name = result == CU_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
            : result == 719            ? "CUDA_ERROR_LAUNCH_FAILED"
            : result == CU_NO_DEVICE   ? "CUDA_ERROR_NO_DEVICE"
                                       : NULL;
    return *name ? CU_OK : 1;
}
cu_result cuDeviceGetCount(int *count)
{
    ENTER;
    *count = (int)number("EMUL_DEVICES", 1);
    return CU_OK;
}
cu_result cuDeviceGet(cu_device *device, int ordinal)
{
    ENTER;
    *device = ordinal;
    return CU_OK;
}
cu_result cuDeviceGetName(char *name, int size, cu_device)
{
    ENTER;
    snprintf(name, (size_t)size, "emulated device");
    return CU_OK;
}
cu_result cuDeviceGetAttribute(int *value, unsigned attribute, cu_device)
{
    ENTER;
    *value = attribute == CU_ATTRIBUTE_MULTIPROCESSORS ? (int)number("EMUL_SMS", 3)
             : attribute == CU_ATTRIBUTE_MAJOR         ? 9
             : attribute == CU_ATTRIBUTE_MINOR         ? 0
             : attribute == CU_ATTRIBUTE_SHARED_OPTIN  ? (int)number("EMUL_SHARED", 227 << 10)
                                                       : 0;
    return CU_OK;
}
cu_result cuDevicePrimaryCtxRetain(cu_context *context, cu_device device)
{
    ENTER;
    driver.contexts++;
    *context = &driver.devices[device];
    (*context)->device = device;
    return CU_OK;
}
cu_result cuDevicePrimaryCtxRelease_v2(cu_device)
{
    ENTER;
    driver.contexts--;
    return CU_OK;
}
cu_result cuCtxSetCurrent(cu_context context)
{
    ENTER;
    current = context;
    return CU_OK;
}
cu_result cuDeviceCanAccessPeer(int *can, cu_device device, cu_device peer)
{
    ENTER;
    *can = device != peer && !number("EMUL_NO_PEERS", 0);
    return CU_OK;
}
cu_result cuCtxEnablePeerAccess(cu_context peer, unsigned)
{
    ENTER_CONTEXT;
    return peer == current ? 101 : CU_OK;
}

/* ---- memory ---- */

cu_result cuMemGetInfo_v2(size_t *free, size_t *total)
{
    ENTER_CONTEXT;
    *total = number("EMUL_MEMORY", 4ull << 30);
    *free = *total - current->bytes;
    return CU_OK;
}
cu_result cuMemAlloc_v2(cu_address *address, size_t bytes)
{
    ENTER_CONTEXT;
    if (current->bytes + bytes > number("EMUL_MEMORY", 4ull << 30))
        return CU_OUT_OF_MEMORY;
    void *p = NULL;
    if (posix_memalign(&p, 256, bytes))
        return CU_OUT_OF_MEMORY;
    memset(p, 0xff, bytes);
    driver.blocks[(uintptr_t)p] = {bytes, current};
    current->bytes += bytes;
    *address = (uintptr_t)p;
    return CU_OK;
}
cu_result cuMemFree_v2(cu_address address)
{
    drain_all();
    ENTER_CONTEXT;
    auto found = driver.blocks.find((uintptr_t)address);
    if (found == driver.blocks.end())
        return 1;
    found->second.context->bytes -= found->second.bytes;
    driver.blocks.erase(found);
    free((void *)(uintptr_t)address);
    return CU_OK;
}
cu_result cuMemHostAlloc(void **host, size_t bytes, unsigned)
{
    ENTER_CONTEXT;
    if (posix_memalign(host, 4096, bytes))
        return CU_OUT_OF_MEMORY;
    driver.pinned[(uintptr_t)*host] = bytes;
    return CU_OK;
}
cu_result cuMemFreeHost(void *host)
{
    drain_all();
    ENTER_CONTEXT;
    if (!driver.pinned.erase((uintptr_t)host))
        return 1;
    free(host);
    return CU_OK;
}
static void copy(CUstream_st *s, void *to, const void *from, size_t bytes)
{
    put(s, [=] {
        emul_sync();
        memcpy(to, from, bytes);
    });
}
cu_result cuMemcpyHtoDAsync_v2(cu_address to, const void *from, size_t bytes, cu_stream s)
{
    ENTER_CONTEXT;
    auto next = driver.pinned.upper_bound((uintptr_t)from);
    if (next != driver.pinned.begin() && (--next, (uintptr_t)from < next->first + next->second)) {
        copy(s, (void *)(uintptr_t)to, from, bytes);
    } else { /* pageable: the driver has its own copy before it returns */
        std::vector<char> staged((const char *)from, (const char *)from + bytes);
        put(s, [=] {
            emul_sync();
            memcpy((void *)(uintptr_t)to, staged.data(), bytes);
        });
    }
    return CU_OK;
}
cu_result cuMemcpyDtoHAsync_v2(void *to, cu_address from, size_t bytes, cu_stream s)
{
    ENTER_CONTEXT;
    driver.to_host += bytes;
    copy(s, to, (const void *)(uintptr_t)from, bytes);
    return CU_OK;
}
cu_result cuMemcpyDtoDAsync_v2(cu_address to, cu_address from, size_t bytes, cu_stream s)
{
    ENTER_CONTEXT;
    copy(s, (void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
    return CU_OK;
}
cu_result cuMemsetD8Async(cu_address to, unsigned char value, size_t bytes, cu_stream s)
{
    ENTER_CONTEXT;
    put(s, [=] {
        emul_sync();
        memset((void *)(uintptr_t)to, value, bytes);
    });
    return CU_OK;
}

/* ---- streams ---- */

cu_result cuStreamCreate(cu_stream *stream, unsigned)
{
    ENTER_CONTEXT;
    *stream = new CUstream_st();
    (*stream)->device = current->device;
    (*stream)->at_once = driver.open.size() >= number("EMUL_LAZY", UINT64_MAX);
    driver.open.push_back(*stream);
    driver.streams++;
    return CU_OK;
}
cu_result cuStreamDestroy_v2(cu_stream stream)
{
    drain(stream, stream->put);
    ENTER_CONTEXT;
    driver.open.erase(std::find(driver.open.begin(), driver.open.end(), stream));
    driver.closed.push_back(stream);
    driver.streams--;
    return CU_OK;
}
/* What was put in by now has run, or never will. */
static cu_result ran(CUstream_st *stream, uint64_t until)
{
    drain(stream, until);
    return driver.devices[stream->device].dead ? 719 : stream->hangs ? CU_NOT_READY : CU_OK;
}
cu_result cuStreamQuery(cu_stream stream)
{
    {
        ENTER_CONTEXT;
        if (stream->capture)
            return 900;
    }
    return ran(stream, stream->put);
}
cu_result cuStreamSynchronize(cu_stream stream)
{
    {
        ENTER_CONTEXT;
        if (stream->capture)
            return 900;
    }
    cu_result result;
    while ((result = ran(stream, stream->put)) == CU_NOT_READY)
        usleep(10000);
    return result;
}
cu_result cuStreamWaitEvent(cu_stream stream, cu_event event, unsigned)
{
    ENTER;
    CUstream_st *other = event->stream;
    const uint64_t at = event->at; /* as it is now: it may be recorded anew */
    if (other)
        put(stream, [=] { drain(other, at); });
    return CU_OK;
}
cu_result cuEventCreate(cu_event *event, unsigned)
{
    ENTER_CONTEXT;
    *event = new CUevent_st();
    driver.events++;
    return CU_OK;
}
cu_result cuEventDestroy_v2(cu_event event)
{
    ENTER_CONTEXT;
    delete event;
    driver.events--;
    return CU_OK;
}
cu_result cuEventRecord(cu_event event, cu_stream stream)
{
    ENTER_CONTEXT;
    event->stream = stream;
    event->at = stream->put;
    return CU_OK;
}
cu_result cuEventSynchronize(cu_event event)
{
    {
        ENTER_CONTEXT;
    }
    return event->stream ? ran(event->stream, event->at) : (cu_result)CU_OK;
}

/* ---- kernels ---- */

cu_result cuModuleLoadData(cu_module *module, const void *)
{
    ENTER_CONTEXT;
    *module = new CUmod_st();
    driver.modules++;
    return CU_OK;
}
cu_result cuModuleUnload(cu_module module)
{
    ENTER_CONTEXT;
    for (CUfunc_st *f : module->functions)
        delete f;
    delete module;
    driver.modules--;
    return CU_OK;
}
cu_result cuModuleGetFunction(cu_function *function, cu_module module, const char *name)
{
    ENTER_CONTEXT;
    const emul_entry *e = emul_find(name);
    if (!e)
        return 500;
    *function = new CUfunc_st{e, 48 << 10};
    module->functions.push_back(*function);
    return CU_OK;
}
cu_result cuFuncSetAttribute(cu_function function, unsigned attribute, int value)
{
    ENTER_CONTEXT;
    if (attribute != CU_FUNCTION_SHARED || value > (int)number("EMUL_SHARED", 227 << 10))
        return 1;
    function->shared = value;
    return CU_OK;
}
cu_result cuFuncGetAttribute(int *value, unsigned attribute, cu_function)
{
    ENTER_CONTEXT;
    *value = attribute == CU_FUNCTION_PTX_VERSION ? 90 : 0;
    return CU_OK;
}
cu_result cuLaunchKernelEx(const struct cu_launch *l, cu_function f, void **arguments, void **extra)
{
    ENTER_CONTEXT;
    if (extra || !l->grid_x || !l->block_x || l->block_x > 1024 || (int)l->shared_bytes > f->shared)
        return 1;
    emul_launch launch = {{l->grid_x, l->grid_y, l->grid_z},
                          {l->block_x, l->block_y, l->block_z},
                          l->shared_bytes,
                          false};
    for (unsigned i = 0; i < l->n_attributes; i++)
        launch.programmatic |=
            l->attributes[i].id == CU_LAUNCH_PROGRAMMATIC && l->attributes[i].value;
    if (launch.programmatic && l->stream->capture && number("EMUL_OLD", 0))
        return 801; /* as drivers before CUDA 12.3 do */
    std::vector<unsigned char> bytes((unsigned char *)arguments[0],
                                     (unsigned char *)arguments[0] + f->entry->bytes);
    if (l->stream->device != current->device)
        return 400;
    const emul_entry *entry = f->entry;
    CUstream_st *stream = l->stream;
    put(stream, [=] { run_kernel(stream, launch, *entry, bytes.data()); });
    return CU_OK;
}

/* ---- graphs ---- */

cu_result cuStreamBeginCapture_v2(cu_stream stream, unsigned)
{
    ENTER_CONTEXT;
    stream->capture = new CUgraph_st();
    driver.graphs++;
    return CU_OK;
}
cu_result cuStreamEndCapture(cu_stream stream, cu_graph *graph)
{
    ENTER_CONTEXT;
    *graph = stream->capture;
    stream->capture = NULL;
    return CU_OK;
}
cu_result cuGraphInstantiateWithFlags(cu_graph_exec *exec, cu_graph graph, unsigned long long)
{
    ENTER_CONTEXT;
    *exec = new CUgraphExec_st{graph->ops};
    driver.graphs++;
    return CU_OK;
}
cu_result cuGraphLaunch(cu_graph_exec exec, cu_stream stream)
{
    ENTER_CONTEXT;
    for (const op &f : exec->ops)
        put(stream, f);
    return CU_OK;
}
cu_result cuGraphExecDestroy(cu_graph_exec exec)
{
    ENTER_CONTEXT;
    delete exec;
    driver.graphs--;
    return CU_OK;
}
cu_result cuGraphDestroy(cu_graph graph)
{
    ENTER_CONTEXT;
    delete graph;
    driver.graphs--;
    return CU_OK;
}
}
