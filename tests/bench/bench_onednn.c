/* The matrix products of a prompt by oneDNN, shapes of TinyLlama-1.1B's layers: what a prompt takes
 * there at least, with nothing between the products. bf16 where the processor multiplies it, else
 * f32; weights packed as oneDNN wants them, a few layers' worth, more than caches hold. Prints a
 * line of JSON; checks nothing. OMP_NUM_THREADS says by how many threads.
 *
 * bench_onednn TOKENS [rounds]
 */
#include "measure.h"

#include <dnnl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { LAYERS = 22, HELD = 3, MATRICES = 7, ROUNDS_MAX = SAMPLES_MAX };
enum { HIDDEN = 2048, KV = 256, FF = 5632 };
static const int64_t shapes[MATRICES][2] = {/* columns, rows */
                                            {HIDDEN, HIDDEN}, {HIDDEN, KV}, {HIDDEN, KV},
                                            {HIDDEN, HIDDEN}, {HIDDEN, FF}, {HIDDEN, FF},
                                            {FF, HIDDEN}};

static void want(dnnl_status_t status, const char *what)
{
    if (status == dnnl_success)
        return;
    fprintf(stderr, "bench_onednn: %s failed, status %d\n", what, (int)status);
    exit(1);
}

/* A description by version 2 is a struct, by version 3 a pointer to one. */
#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t desc_ref;
#define REF(desc) (desc)
static void describe(dnnl_memory_desc_t *desc, const dnnl_dims_t dims, dnnl_data_type_t type,
                     dnnl_format_tag_t tag)
{
    want(dnnl_memory_desc_create_with_tag(desc, 2, dims, type, tag), "a description");
}
#else
typedef const dnnl_memory_desc_t *desc_ref;
#define REF(desc) (&(desc))
static void describe(dnnl_memory_desc_t *desc, const dnnl_dims_t dims, dnnl_data_type_t type,
                     dnnl_format_tag_t tag)
{
    want(dnnl_memory_desc_init_by_tag(desc, 2, dims, type, tag), "a description");
}
#endif

struct product {
    dnnl_primitive_t primitive;
    dnnl_memory_t x, weights[HELD], y;
};

static dnnl_memory_t filled(dnnl_engine_t engine, desc_ref desc)
{
    dnnl_memory_t memory;
    void *data;
    want(dnnl_memory_create(&memory, desc, engine, DNNL_MEMORY_ALLOCATE), "memory");
    want(dnnl_memory_get_data_handle(memory, &data), "memory");
    uint32_t *words = data;
    for (size_t i = 0; i < dnnl_memory_desc_get_size(desc) / 4; i++)
        words[i] = 0x3f803f80; /* about 1, as f32 and as bf16 */
    return memory;
}

static struct product open_product(dnnl_engine_t engine, dnnl_data_type_t type, int64_t tokens,
                                   const int64_t shape[2])
{
    struct product p;
    dnnl_memory_desc_t x, w, y;
    dnnl_primitive_desc_t pd;
    describe(&x, (const dnnl_dims_t){tokens, shape[0]}, type, dnnl_ab);
    describe(&w, (const dnnl_dims_t){shape[0], shape[1]}, type, dnnl_format_tag_any);
    describe(&y, (const dnnl_dims_t){tokens, shape[1]}, dnnl_f32, dnnl_ab);
#if DNNL_VERSION_MAJOR >= 3
    want(dnnl_matmul_primitive_desc_create(&pd, engine, x, w, NULL, y, NULL), "a product");
#else
    dnnl_matmul_desc_t desc;
    want(dnnl_matmul_desc_init(&desc, &x, &w, NULL, &y), "a product");
    want(dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL), "a product");
#endif
    want(dnnl_primitive_create(&p.primitive, pd), "a product");
    p.x = filled(engine, REF(x));
    p.y = filled(engine, REF(y));
    for (int i = 0; i < HELD; i++)
        p.weights[i] = filled(engine, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0));
    return p;
}

static void run_layers(const struct product *products, int layers, dnnl_stream_t stream)
{
    for (int layer = 0; layer < layers; layer++)
        for (int i = 0; i < MATRICES; i++) {
            const struct product *p = &products[i];
            const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p->x},
                                            {DNNL_ARG_WEIGHTS, p->weights[layer % HELD]},
                                            {DNNL_ARG_DST, p->y}};
            want(dnnl_primitive_execute(p->primitive, stream, 3, args), "multiplying");
        }
    want(dnnl_stream_wait(stream), "multiplying");
}

int main(int argc, char **argv)
{
    int tokens = argc > 1 ? atoi(argv[1]) : 0, rounds = argc > 2 ? atoi(argv[2]) : 3;
    if (tokens < 1 || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_onednn TOKENS [rounds]\n");
        return 2;
    }
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct product products[MATRICES];
    double rates[ROUNDS_MAX];
    bool bf16 = __builtin_cpu_supports("avx512bf16") != 0;
    want(dnnl_engine_create(&engine, dnnl_cpu, 0), "an engine");
    want(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "a stream");
    for (int i = 0; i < MATRICES; i++)
        products[i] = open_product(engine, bf16 ? dnnl_bf16 : dnnl_f32, tokens, shapes[i]);
    run_layers(products, 1, stream); /* to warm up */
    for (int i = 0; i < rounds; i++) {
        double begin = now();
        run_layers(products, LAYERS, stream);
        rates[i] = tokens / (now() - begin);
    }
    print_samples(bf16 ? "bf16" : "f32", "tok/s", rates, rounds);
    return 0;
}
