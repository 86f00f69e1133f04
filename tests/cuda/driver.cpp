/* A CUDA driver without a GPU: libcuda.so.1 for tests, with the emulated device behind it.
 *
 * What is put into a stream runs when somebody waits for it, not before, so that a buffer that is
 * used too early shows. Allocations are heap blocks of their own, full of NaN at first.
 *
 * EMUL_SEED=N order of threads (emul.h); EMUL_SMS=N multiprocessors; EMUL_MEMORY=BYTES;
 * EMUL_OLD=1 no early launches in graphs;
 * EMUL_LAZY=N streams but the first N run at once what is put into them: what does not wait for
 * another stream's work does it too early;
 * EMUL_FAIL=K[:RESULT] the K-th call fails, EMUL_LOST=K all from the K-th on; EMUL_REPORT=FILE
 * gets a line when the process ends: calls, launches, and what was never given back.
 */
#include "driver.h"
#include "emul.h"

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>
#include <stdio.h>
#include <stdlib.h>
#include <vector>

typedef std::function<void()> op;

struct CUstream_st {
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
struct CUctx_st {
    int unused;
};

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static struct driver {
    std::recursive_mutex mutex;
    std::map<uintptr_t, size_t> blocks, pinned;
    std::vector<CUstream_st *> open, closed; /* for which others may still wait */
    uint64_t calls = 0, launches = 0, bytes = 0;
    int contexts = 0, streams = 0, events = 0, graphs = 0, modules = 0;
    CUctx_st context;
    ~driver()
    {
        const char *path = getenv("EMUL_REPORT");
        FILE *f = path ? fopen(path, "w") : NULL;
        if (f)
            fprintf(f,
                    "calls %llu launches %llu left: blocks %zu pinned %zu contexts %d streams %d "
                    "events %d graphs %d modules %d\n",
                    (unsigned long long)calls, (unsigned long long)launches, blocks.size(),
                    pinned.size(), contexts, streams, events, graphs, modules);
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

static void drain(CUstream_st *s, uint64_t until);
static void put(CUstream_st *s, op f)
{
    if (s->capture) {
        s->capture->ops.push_back(f);
        return;
    }
    s->queue.push_back(f);
    s->put++;
    if (s->at_once)
        drain(s, s->put);
}

static void drain(CUstream_st *s, uint64_t until)
{
    std::vector<op> kept; /* a kernel's threads read their arguments until they are waited for */
    while (s->done < until) {
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
    for (CUstream_st *s : driver.open)
        drain(s, s->put);
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
    const size_t at = (uintptr_t)p - block->first;
    return at <= block->second && bytes <= block->second - at;
}
void emul_put(cu_stream stream, op f)
{
    std::lock_guard<std::recursive_mutex> lock(driver.mutex);
    put(stream, [=] {
        emul_sync();
        driver.mutex.unlock(); /* it may wait for another thread's stream */
        f();
        driver.mutex.lock();
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
cu_result cuDevicePrimaryCtxRetain(cu_context *context, cu_device)
{
    ENTER;
    driver.contexts++;
    *context = &driver.context;
    return CU_OK;
}
cu_result cuDevicePrimaryCtxRelease_v2(cu_device)
{
    ENTER;
    driver.contexts--;
    return CU_OK;
}
cu_result cuCtxSetCurrent(cu_context)
{
    ENTER;
    return CU_OK;
}

/* ---- memory ---- */

cu_result cuMemGetInfo_v2(size_t *free, size_t *total)
{
    ENTER;
    *total = number("EMUL_MEMORY", 4ull << 30);
    *free = *total - driver.bytes;
    return CU_OK;
}
cu_result cuMemAlloc_v2(cu_address *address, size_t bytes)
{
    ENTER;
    if (driver.bytes + bytes > number("EMUL_MEMORY", 4ull << 30))
        return CU_OUT_OF_MEMORY;
    void *p = NULL;
    if (posix_memalign(&p, 256, bytes))
        return CU_OUT_OF_MEMORY;
    memset(p, 0xff, bytes);
    driver.blocks[(uintptr_t)p] = bytes;
    driver.bytes += bytes;
    *address = (uintptr_t)p;
    return CU_OK;
}
cu_result cuMemFree_v2(cu_address address)
{
    ENTER;
    auto found = driver.blocks.find((uintptr_t)address);
    if (found == driver.blocks.end())
        return 1;
    drain_all();
    driver.bytes -= found->second;
    driver.blocks.erase(found);
    free((void *)(uintptr_t)address);
    return CU_OK;
}
cu_result cuMemHostAlloc(void **host, size_t bytes, unsigned)
{
    ENTER;
    if (posix_memalign(host, 4096, bytes))
        return CU_OUT_OF_MEMORY;
    driver.pinned[(uintptr_t)*host] = bytes;
    return CU_OK;
}
cu_result cuMemFreeHost(void *host)
{
    ENTER;
    drain_all();
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
    ENTER;
    copy(s, (void *)(uintptr_t)to, from, bytes);
    return CU_OK;
}
cu_result cuMemcpyDtoHAsync_v2(void *to, cu_address from, size_t bytes, cu_stream s)
{
    ENTER;
    copy(s, to, (const void *)(uintptr_t)from, bytes);
    return CU_OK;
}
cu_result cuMemcpyDtoDAsync_v2(cu_address to, cu_address from, size_t bytes, cu_stream s)
{
    ENTER;
    copy(s, (void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
    return CU_OK;
}
cu_result cuMemsetD8Async(cu_address to, unsigned char value, size_t bytes, cu_stream s)
{
    ENTER;
    put(s, [=] {
        emul_sync();
        memset((void *)(uintptr_t)to, value, bytes);
    });
    return CU_OK;
}

/* ---- streams ---- */

cu_result cuStreamCreate(cu_stream *stream, unsigned)
{
    ENTER;
    *stream = new CUstream_st();
    (*stream)->at_once = driver.open.size() >= number("EMUL_LAZY", UINT64_MAX);
    driver.open.push_back(*stream);
    driver.streams++;
    return CU_OK;
}
cu_result cuStreamDestroy_v2(cu_stream stream)
{
    ENTER;
    drain(stream, stream->put);
    driver.open.erase(std::find(driver.open.begin(), driver.open.end(), stream));
    driver.closed.push_back(stream);
    driver.streams--;
    return CU_OK;
}
cu_result cuStreamSynchronize(cu_stream stream)
{
    ENTER;
    if (stream->capture)
        return 900;
    drain(stream, stream->put);
    return CU_OK;
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
    ENTER;
    *event = new CUevent_st();
    driver.events++;
    return CU_OK;
}
cu_result cuEventDestroy_v2(cu_event event)
{
    ENTER;
    delete event;
    driver.events--;
    return CU_OK;
}
cu_result cuEventRecord(cu_event event, cu_stream stream)
{
    ENTER;
    event->stream = stream;
    event->at = stream->put;
    return CU_OK;
}
cu_result cuEventSynchronize(cu_event event)
{
    ENTER;
    if (event->stream)
        drain(event->stream, event->at);
    return CU_OK;
}

/* ---- kernels ---- */

cu_result cuModuleLoadData(cu_module *module, const void *)
{
    ENTER;
    *module = new CUmod_st();
    driver.modules++;
    return CU_OK;
}
cu_result cuModuleUnload(cu_module module)
{
    ENTER;
    for (CUfunc_st *f : module->functions)
        delete f;
    delete module;
    driver.modules--;
    return CU_OK;
}
cu_result cuModuleGetFunction(cu_function *function, cu_module module, const char *name)
{
    ENTER;
    const emul_entry *e = emul_find(name);
    if (!e)
        return 500;
    *function = new CUfunc_st{e, 48 << 10};
    module->functions.push_back(*function);
    return CU_OK;
}
cu_result cuFuncSetAttribute(cu_function function, unsigned attribute, int value)
{
    ENTER;
    if (attribute != CU_FUNCTION_SHARED || value > (int)number("EMUL_SHARED", 227 << 10))
        return 1;
    function->shared = value;
    return CU_OK;
}
cu_result cuFuncGetAttribute(int *value, unsigned attribute, cu_function)
{
    ENTER;
    *value = attribute == CU_FUNCTION_PTX_VERSION ? 90 : 0;
    return CU_OK;
}
cu_result cuLaunchKernelEx(const struct cu_launch *l, cu_function f, void **arguments, void **extra)
{
    ENTER;
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
    const emul_entry *entry = f->entry;
    put(l->stream, [=] {
        driver.launches++;
        emul_run(launch, *entry, bytes.data());
    });
    return CU_OK;
}

/* ---- graphs ---- */

cu_result cuStreamBeginCapture_v2(cu_stream stream, unsigned)
{
    ENTER;
    stream->capture = new CUgraph_st();
    driver.graphs++;
    return CU_OK;
}
cu_result cuStreamEndCapture(cu_stream stream, cu_graph *graph)
{
    ENTER;
    *graph = stream->capture;
    stream->capture = NULL;
    return CU_OK;
}
cu_result cuGraphInstantiateWithFlags(cu_graph_exec *exec, cu_graph graph, unsigned long long)
{
    ENTER;
    *exec = new CUgraphExec_st{graph->ops};
    driver.graphs++;
    return CU_OK;
}
cu_result cuGraphLaunch(cu_graph_exec exec, cu_stream stream)
{
    ENTER;
    for (const op &f : exec->ops)
        put(stream, f);
    return CU_OK;
}
cu_result cuGraphExecDestroy(cu_graph_exec exec)
{
    ENTER;
    delete exec;
    driver.graphs--;
    return CU_OK;
}
cu_result cuGraphDestroy(cu_graph graph)
{
    ENTER;
    delete graph;
    driver.graphs--;
    return CU_OK;
}
}
