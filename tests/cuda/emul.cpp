/* The scheduler of emul.h. Compiled without the thread sanitizer, which is told of fibers and of
 * what orders memory instead. */
#include "emul.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include <vector>

#ifdef EMUL_TSAN
extern "C" {
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void *__tsan_get_current_fiber(void);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
}
enum { NO_SYNC = 1 };
struct unseen { /* memory touched here is the emulator's business */
    unseen()
    {
        AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    }
    ~unseen()
    {
        AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    }
};
#else
#define __tsan_create_fiber(flags) nullptr
#define __tsan_destroy_fiber(fiber) ((void)0)
#define __tsan_get_current_fiber() nullptr
#define __tsan_switch_to_fiber(fiber, flags) ((void)0)
#define __tsan_acquire(addr) ((void)(addr))
#define __tsan_release(addr) ((void)(addr))
struct unseen {
    unseen()
    {
    }
};
#endif
#ifdef EMUL_ASAN
extern "C" void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void *saved, const void **bottom, size_t *size);
#else
#define __sanitizer_start_switch_fiber(save, bottom, size) ((void)0)
#define __sanitizer_finish_switch_fiber(saved, bottom, size) ((void)0)
#endif

enum { STACK_BYTES = 256 << 10, LANES = 32, MEET_BYTES = 64 };
enum { POOLS = 4 }; /* launches whose threads the sanitizer tells apart */

/* ---- state ---- */

enum wait { READY, AT_BARRIER, AT_WARP, DONE };

struct meeting { /* the lanes of one mask */
    unsigned mask, arrived;
    uint64_t round;
    const char *kind;
    char order[2];                             /* as a block's */
    unsigned char data[2][LANES * MEET_BYTES]; /* a lane is at most one round ahead */
};

struct copy {
    void *to;
    std::vector<unsigned char> bytes;
};

struct fiber : emul_fiber {
    void *sp;
    unsigned char *stack;
    void *sanitizer, *fake_stack;
    enum wait state;
    uint64_t round; /* waited for */
    meeting *at;
    std::vector<copy> copies;
    std::vector<size_t> groups; /* copies in each committed group, oldest first */
    size_t open;
    bool waited; /* for the launch before */
};

struct emul_block {
    uint3 index;
    unsigned live, arrived;
    uint64_t round;
    size_t shared_used;
    std::vector<std::pair<unsigned char *, size_t>> arrays;
    std::vector<std::vector<meeting *>> warps;
    char order[2]; /* addresses for the thread sanitizer, of barriers in turn: who leaves one late
                    * has not seen what others did on their way to the next */
};

thread_local emul_fiber *emul_self;

static thread_local struct state {
    const emul_launch *launch;
    const char *name;
    const emul_entry *entry;
    const void *arguments;
    std::vector<fiber *> fibers; /* that run now */
    std::vector<std::vector<fiber *>> pools;
    void *main_sp, *main_sanitizer, *main_fake;
    const void *main_bottom;
    size_t main_size;
    unsigned grid_live;
    uint64_t launches, random, seed;
    bool progress;
    char host_order, stream_order[POOLS];
    ~state()
    {
        for (auto &pool : pools)
            for (fiber *f : pool) {
                __tsan_destroy_fiber(f->sanitizer);
                munmap(f->stack - 4096, STACK_BYTES + 4096);
                delete f;
            }
    }
} now;

static fiber *self()
{
    return (fiber *)emul_self;
}
const uint3 &emul_block_index()
{
    return emul_self->block->index;
}
const dim3 &emul_grid_dim()
{
    return now.launch->grid;
}
void emul_seed(uint64_t seed)
{
    now.seed = now.random = seed;
}

static uint64_t random_next()
{
    now.random += 0x9e3779b97f4a7c15u;
    uint64_t z = now.random;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void emul_fail(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fprintf(stderr, "emul: %s: ", now.name ? now.name : "?");
    if (emul_self)
        fprintf(stderr, "block %u thread %u: ", emul_self->block->index.x, emul_self->thread.x);
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    abort();
}

/* ---- switching ---- */

extern "C" void emul_switch(void **from, void *to);
asm(".text\n.globl emul_switch\nemul_switch:\n"
    "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n movq %rsp, "
    "(%rdi)\n"
    "movq %rsi, %rsp\n popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n "
    "ret\n");

static void to_main(fiber *f)
{
    __sanitizer_start_switch_fiber(f->state == DONE ? nullptr : &f->fake_stack, now.main_bottom,
                                   now.main_size);
    __tsan_switch_to_fiber(now.main_sanitizer, NO_SYNC);
    emul_switch(&f->sp, now.main_sp);
    __sanitizer_finish_switch_fiber(f->fake_stack, &now.main_bottom, &now.main_size);
}

static void run(fiber *f)
{
    emul_self = f;
    __sanitizer_start_switch_fiber(&now.main_fake, f->stack, STACK_BYTES);
    __tsan_switch_to_fiber(f->sanitizer, NO_SYNC);
    emul_switch(&now.main_sp, f->sp);
    __sanitizer_finish_switch_fiber(now.main_fake, nullptr, nullptr);
    emul_self = nullptr;
}

static void release_barrier(emul_block *b)
{
    if (b->live && b->arrived == b->live) {
        b->arrived = 0;
        b->round++;
    }
}

static void fiber_main()
{
    fiber *f = self();
    __sanitizer_finish_switch_fiber(f->fake_stack, &now.main_bottom, &now.main_size);
    __tsan_acquire(&now.host_order);
    if (!now.launch->programmatic)
        wait_previous();
    now.entry->run(now.arguments);
    if (f->copies.size())
        emul_fail("ends with copies to shared memory not waited for");
    __tsan_release(&now.stream_order[now.launches % POOLS]);
    f->state = DONE;
    f->block->live--;
    now.grid_live--;
    now.progress = true;
    release_barrier(f->block);
    to_main(f);
    abort();
}

static void prepare(fiber *f, emul_block *b, unsigned thread)
{
    const dim3 &d = now.launch->block;
    f->thread = {thread % d.x, thread / d.x % d.y, thread / d.x / d.y};
    f->lane = thread % LANES;
    f->block = b;
    f->arrays = 0;
    f->state = READY;
    f->waited = false;
    f->copies.clear(), f->groups.clear(), f->open = 0;
    f->fake_stack = nullptr;
    void **top = (void **)(f->stack + STACK_BYTES) - 3; /* as after a call: 8 modulo 16 */
    *top = nullptr;
    *--top = (void *)fiber_main;
    f->sp = top - 6;
}

static fiber *fiber_of(size_t i)
{
    now.pools.resize(POOLS);
    std::vector<fiber *> &pool = now.pools[now.launches % POOLS];
    while (pool.size() <= i) {
        fiber *f = new fiber();
        void *m = mmap(nullptr, STACK_BYTES + 4096, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (m == MAP_FAILED || mprotect(m, 4096, PROT_NONE))
            emul_fail("no memory for the stack of thread %zu", i);
        f->stack = (unsigned char *)m + 4096;
        f->sanitizer = __tsan_create_fiber(0);
        pool.push_back(f);
    }
    return pool[i];
}

static bool can_run(const fiber *f)
{
    switch (f->state) {
    case READY:
        return true;
    case AT_BARRIER:
        return f->block->round != f->round;
    case AT_WARP:
        return f->at->round != f->round;
    default:
        return false;
    }
}

static double seconds()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void stuck(const char *what)
{
    unsigned counts[4] = {0};
    for (fiber *f : now.fibers)
        counts[f->state]++;
    emul_fail("%s: %u threads wait at __syncthreads, %u at a warp collective, %u in a loop, %u "
              "have ended",
              what, counts[AT_BARRIER], counts[AT_WARP], counts[READY], counts[DONE]);
}

static void run_blocks(unsigned first, unsigned count)
{
    const emul_launch &l = *now.launch;
    const unsigned threads = l.block.x * l.block.y * l.block.z;
    std::vector<emul_block> blocks(count);
    now.fibers.clear();
    now.grid_live = count * threads;
    for (unsigned i = 0; i < count; i++) {
        unsigned n = first + i;
        emul_block &b = blocks[i];
        b.index = {n % l.grid.x, n / l.grid.x % l.grid.y, n / l.grid.x / l.grid.y};
        b.live = threads, b.arrived = 0, b.round = 0, b.shared_used = 0;
        b.warps.resize((threads + LANES - 1) / LANES);
        for (unsigned t = 0; t < threads; t++) {
            fiber *f = fiber_of(i * threads + t);
            prepare(f, &b, t);
            now.fibers.push_back(f);
        }
    }
    std::vector<fiber *> order = now.fibers;
    double since = 0;
    while (now.grid_live) {
        size_t n = order.size();
        if (now.seed > 1)
            for (size_t i = n; i-- > 1;)
                std::swap(order[i], order[random_next() % (i + 1)]);
        now.progress = false;
        bool ran = false;
        for (size_t i = 0; i < n; i++) {
            fiber *f = order[now.seed == 1 ? n - 1 - i : i];
            if (can_run(f)) {
                ran = true;
                run(f);
            }
        }
        if (!ran)
            stuck("deadlock");
        if (now.progress)
            since = 0;
        else if (since == 0)
            since = seconds();
        else if (seconds() - since > 10)
            stuck("no progress for 10 s");
        else
            sched_yield(); /* for what another rank's thread may write */
    }
    for (emul_block &b : blocks) {
        for (auto &a : b.arrays)
            free(a.first);
        for (auto &w : b.warps)
            for (meeting *m : w)
                delete m;
    }
}

static const emul_entry *entries;

emul_entry::emul_entry(const char *n, size_t b, void (*r)(const void *))
    : name(n), bytes(b), run(r), next(entries)
{
    entries = this;
}

const emul_entry *emul_find(const char *name)
{
    const emul_entry *e = entries;
    while (e && strcmp(e->name, name) != 0)
        e = e->next;
    return e;
}

void emul_run(const emul_launch &launch, const emul_entry &entry, const void *arguments)
{
    unseen scope;
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(0x9fc0);
    now.launches++;
    now.launch = &launch, now.name = entry.name, now.entry = &entry, now.arguments = arguments;
    now.main_sanitizer = __tsan_get_current_fiber();
    __tsan_release(&now.host_order);
    const unsigned blocks = launch.grid.x * launch.grid.y * launch.grid.z;
    for (unsigned i = 0; i < blocks; i++)
        run_blocks(i, 1);
    now.launch = nullptr;
    _mm_setcsr(mode);
}

void emul_sync()
{
    for (char &order : now.stream_order)
        __tsan_acquire(&order);
}

/* ---- meeting ---- */

void emul_yield()
{
    self()->state = READY;
    to_main(self());
}

void emul_pause()
{
    if (now.seed > 1 && random_next() % 64 == 0)
        emul_yield();
}

void emul_barrier()
{
    fiber *f = self();
    emul_block *b = f->block;
    char *order = &b->order[b->round & 1];
    __tsan_release(order);
    f->state = AT_BARRIER, f->round = b->round;
    b->arrived++;
    now.progress = true;
    release_barrier(b);
    to_main(f);
    f->state = READY;
    __tsan_acquire(order);
}

void emul_meet(unsigned mask, const char *kind, const void *mine, size_t bytes, bool orders_memory)
{
    fiber *f = self();
    if (!(mask >> f->lane & 1))
        emul_fail("%s: lane %u is not in its mask %08x", kind, f->lane, mask);
    const dim3 &d = now.launch->block;
    unsigned warp = ((f->thread.z * d.y + f->thread.y) * d.x + f->thread.x) / LANES;
    meeting *m = nullptr;
    {
        unseen scope;
        for (meeting *each : f->block->warps[warp])
            m = each->mask == mask ? each : m;
        if (!m) {
            m = new meeting();
            m->mask = mask;
            f->block->warps[warp].push_back(m);
        }
        if (m->arrived && m->kind != kind)
            emul_fail("meets at %s where others of its warp wait at %s", kind, m->kind);
        memcpy(m->data[m->round & 1] + MEET_BYTES * f->lane, mine, bytes);
    }
    m->kind = kind;
    f->at = m, f->round = m->round;
    char *order = &m->order[m->round & 1];
    if (orders_memory)
        __tsan_release(order);
    m->arrived |= 1u << f->lane;
    now.progress = true;
    if (m->arrived == mask) {
        m->arrived = 0;
        m->round++;
    } else {
        f->state = AT_WARP;
        to_main(f);
        f->state = READY;
    }
    if (orders_memory)
        __tsan_acquire(order);
}

void emul_read(unsigned lane, void *out, size_t bytes)
{
    unseen scope;
    memcpy(out, self()->at->data[self()->round & 1] + MEET_BYTES * lane, bytes);
}

/* ---- memory ---- */

void *emul_shared(size_t bytes)
{
    emul_block *b = emul_self->block;
    unsigned i = emul_self->arrays++;
    unseen scope;
    if (i == b->arrays.size()) {
        b->shared_used += (bytes + 15) / 16 * 16;
        if (b->shared_used > now.launch->shared_bytes)
            emul_fail(
                "array %u of %zu bytes: %zu bytes of shared memory in all, the launch gives %zu", i,
                bytes, b->shared_used, now.launch->shared_bytes);
        unsigned char *p = nullptr;
        if (posix_memalign((void **)&p, 128, bytes ? bytes : 1))
            emul_fail("no memory");
        memset(p, 0xff, bytes);
        b->arrays.push_back({p, bytes});
    }
    if (b->arrays[i].second != bytes)
        emul_fail("shared array %u: %zu bytes here, %zu for another thread", i, bytes,
                  b->arrays[i].second);
    return b->arrays[i].first;
}

void launch_dependents()
{
}

void wait_previous()
{
    if (!self()->waited)
        __tsan_acquire(&now.stream_order[(now.launches - 1) % POOLS]);
    self()->waited = true;
}

void emul_copy_async(void *to, const void *from, size_t bytes)
{
    fiber *f = self();
    unseen scope;
    copy c = {to, {}};
    c.bytes.assign((const unsigned char *)from, (const unsigned char *)from + bytes);
    if (now.seed % 2 == 0)
        memset(to, 0xff, bytes); /* who reads before the wait sees NaN */
    f->copies.push_back(c);
    f->open++;
}
void emul_copy_commit()
{
    self()->groups.push_back(self()->open);
    self()->open = 0;
}
void emul_copy_wait(unsigned groups_left)
{
    fiber *f = self();
    unseen scope;
    while (f->groups.size() > groups_left) {
        for (size_t n = f->groups.front(); n--; f->copies.erase(f->copies.begin()))
            memcpy(f->copies.front().to, f->copies.front().bytes.data(),
                   f->copies.front().bytes.size());
        f->groups.erase(f->groups.begin());
    }
}
