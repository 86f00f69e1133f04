/* A step on the CPU: every thread of the team walks the program, for its share of its crew's work.
 */
#include "cpu.h"

#include "rope.h"
#include <immintrin.h>
#include <string.h>

struct call {
    struct cpu_device *device;
    const struct step *step;
};

/* One thread of it. */
struct walk {
    struct cpu_device *device;
    const struct step *step;
    int thread, threads;
    const struct cpu_crew *crew;
    struct share share;
};

static void run(void *arg, const struct op *op)
{
    static cpu_phase *const phases[PHASES] = {
        [PHASE_EMBED] = cpu_embed,
        [PHASE_ENTER] = cpu_enter,
        [PHASE_QKV] = cpu_qkv,
        [PHASE_ROPE_APPEND] = cpu_rope_append,
        [PHASE_ATTENTION] = cpu_attention,
        [PHASE_O_PROJ] = cpu_o_proj,
        [PHASE_REDUCE_ATTENTION] = cpu_reduce_attention,
        [PHASE_GATE_UP] = cpu_gate_up,
        [PHASE_DOWN] = cpu_down,
        [PHASE_REDUCE_MLP] = cpu_reduce_mlp,
        [PHASE_LOGITS] = cpu_logits,
    };
    const struct walk *w = arg;
    phases[op->phase](w->crew, w->step, op, w->share);
}

static void meet(void *arg, enum comm_what what)
{
    const struct walk *w = arg;
    struct comm *comm = w->device->setup.comm;
    comm->meet(comm, w->thread, what);
    if (w->thread == 0 && what != COMM_CREW)
        comm->meetings++;
}

static void after_layer(void *arg, uint32_t layer)
{
    const struct walk *w = arg;
    if (w->thread != 0)
        return;
    w->step->after_layer(w->step->after_layer_arg, layer);
    if (layer + 1 ==
        w->device->setup.model->n_layers) /* the last reduction applied the final norm */
        w->step->after_layer(w->step->after_layer_arg, layer + 1);
}

static uint64_t rope_pages_of(const struct step *step)
{
    uint32_t last = 0;
    for (uint32_t m = 0; m < step->n_rows; m++)
        last = step->rows[m].position > last ? step->rows[m].position : last;
    return last / ATTENTION_CHUNK + 1;
}

/* cos and sin of pages that no step has needed before: the same for all ranks. */
static void fill_rope(const struct walk *w)
{
    const struct cpu_device *d = w->device;
    uint64_t half = d->setup.model->head_dim / 2, first = d->rope_filled * ATTENTION_CHUNK;
    uint64_t pages = rope_pages_of(w->step);
    if (pages <= d->rope_filled)
        return;
    struct share share = {(uint64_t)w->thread, (uint64_t)w->threads};
    struct range mine = share_of(pages * ATTENTION_CHUNK - first, share);
    for (uint64_t p = first + mine.begin; p < first + mine.end; p++)
        rope_row(d->frequencies, half, p, d->setup.model->rope.attention_factor, d->cos + p * half,
                 d->sin + p * half);
}

static struct walk walk_of(const struct call *call, int thread, int threads)
{
    const struct cpu_device *d = call->device;
    const struct cpu_crew *crew = cpu_crew_of(d, thread);
    return (struct walk){call->device, call->step,
                         thread,       threads,
                         crew,         {(uint64_t)thread - crew->first_thread, crew->parts}};
}

static void step_thread(void *arg, int thread, int threads)
{
    const struct call *call = arg;
    struct walk walk = walk_of(call, thread, threads);
    const struct walker walker = {run, meet, call->step->after_layer ? after_layer : NULL, &walk};
    fill_rope(&walk); /* read after the first meeting */
    forward_walk(call->step, call->device->ranks[walk.crew->ranks.begin].weights->partition.layers,
                 &walker);
}

static void logits_thread(void *arg, int thread, int threads)
{
    struct walk walk = walk_of(arg, thread, threads);
    forward_walk_logits(&(struct walker){run, meet, NULL, &walk});
}

static void set_slice(struct cpu_device *d, const struct step *step, uint32_t first)
{
    uint32_t left = step->n_logits - first;
    d->slice_first = first;
    d->slice_count = left < d->slice_max ? left : (uint32_t)d->slice_max;
}

bool cpu_step(struct device *device, const struct step *step, struct tp_error *err)
{
    (void)err;
    struct cpu_device *d = cpu_device_of(device);
    set_slice(d, step, 0);
    team_call(d->setup.team, step_thread, &(struct call){d, step});
    uint64_t pages = rope_pages_of(step);
    d->rope_filled = pages > d->rope_filled ? pages : d->rope_filled;
    return true;
}

const float *cpu_logit_rows(struct device *device, const struct step *step, uint32_t first,
                            uint32_t *count, struct tp_error *err)
{
    (void)err;
    struct cpu_device *d = cpu_device_of(device);
    if (first != d->slice_first) {
        set_slice(d, step, first);
        team_call(d->setup.team, logits_thread, &(struct call){d, step});
    }
    *count = d->slice_count;
    return d->logits;
}

/* ---- who computes ---- */

struct introduction {
    struct cpu_device *device;
    struct comm_hello *hellos;
};

static void introduce_thread(void *arg, int thread, int threads)
{
    const struct introduction *i = arg;
    const struct cpu_crew *crew = cpu_crew_of(i->device, thread);
    (void)threads;
    if ((uint64_t)thread != crew->first_thread)
        return;
    for (uint64_t r = crew->ranks.begin; r < crew->ranks.end; r++) {
        i->hellos[r].fp_mode = _mm_getcsr();
        strncpy(i->hellos[r].kernels, i->device->kernels->name, sizeof i->hellos[r].kernels - 1);
    }
}

void cpu_introduce(struct device *device, struct comm_hello *hellos)
{
    struct cpu_device *d = cpu_device_of(device);
    team_call(d->setup.team, introduce_thread, &(struct introduction){d, hellos});
}
