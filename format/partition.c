#include "partition.h"

#include "checked.h"
#include "error.h"

enum { TWO_HEADS_ABOVE = 64 };

struct leaves leaves_of_attention(const struct model_config *model)
{
    uint64_t per_leaf = model->n_heads > TWO_HEADS_ABOVE ? 2 : 1;
    return (struct leaves){
        .count = div_ceil(model->n_heads, per_leaf),
        .columns = model->n_heads * model->head_dim,
        .units = model->n_heads,
        .unit_columns = model->head_dim,
        .per_leaf = per_leaf,
    };
}

struct leaves leaves_of_mlp(const struct model_config *model)
{
    uint64_t units = div_ceil(model->d_ff, PARTITION_MLP_UNIT);
    return (struct leaves){
        .count = min_u64(units, PARTITION_MLP_LEAVES),
        .columns = model->d_ff,
        .units = units,
        .unit_columns = PARTITION_MLP_UNIT,
    };
}

struct range leaf_columns(const struct leaves *leaves, uint64_t i)
{
    uint64_t begin, end;
    if (leaves->per_leaf) {
        begin = i * leaves->per_leaf;
        end = min_u64(begin + leaves->per_leaf, leaves->units);
    } else {
        begin = cut(leaves->units, i, leaves->count);
        end = cut(leaves->units, i + 1, leaves->count);
    }
    return (struct range){min_u64(begin * leaves->unit_columns, leaves->columns),
                          min_u64(end * leaves->unit_columns, leaves->columns)};
}

struct leaves leaves_whole(uint64_t columns)
{
    return (struct leaves){
        .count = 1, .columns = columns, .units = 1, .unit_columns = columns, .per_leaf = 1};
}

static struct range share(uint64_t n, uint64_t tp_size, uint64_t rank)
{
    return (struct range){cut(n, rank, tp_size), cut(n, rank + 1, tp_size)};
}

/* The columns of a run of leaves, which lie side by side; an empty run is an empty range. */
static struct range columns_of(const struct leaves *leaves, struct range run)
{
    if (run.begin == run.end)
        return (struct range){0, 0};
    return (struct range){leaf_columns(leaves, run.begin).begin,
                          leaf_columns(leaves, run.end - 1).end};
}

struct partition partition_of(const struct model_config *model, uint64_t tp_size, uint64_t rank)
{
    tp_assert(tp_size >= 1 && tp_size <= PARTITION_TP_MAX && rank < tp_size);
    struct leaves attention = leaves_of_attention(model), mlp = leaves_of_mlp(model);
    struct partition p = {
        .tp_size = tp_size,
        .rank = rank,
        .layers = {0, model->n_layers},
        .attention_leaves = share(attention.count, tp_size, rank),
        .mlp_leaves = share(mlp.count, tp_size, rank),
        .panels = share(div_ceil(model->vocab, 16), tp_size, rank),
    };
    struct range columns = columns_of(&attention, p.attention_leaves);
    p.heads = (struct range){columns.begin / model->head_dim, columns.end / model->head_dim};
    if (range_count(p.heads)) {
        uint64_t group = model->n_heads / model->n_kv_heads;
        p.kv_heads = (struct range){p.heads.begin / group, (p.heads.end - 1) / group + 1};
    }
    p.ff = columns_of(&mlp, p.mlp_leaves);
    p.vocab = (struct range){min_u64(p.panels.begin * 16, model->vocab),
                             min_u64(p.panels.end * 16, model->vocab)};
    return p;
}

/* ---- the tree ---- */

/* A node of two children ends at leaf `end`; how many of those begin in [low, high)? Walks the
 * nodes that contain leaf end-1 from the root down: they are the only ones that can end there. */
static uint8_t merges_at(uint64_t n, uint64_t end, uint64_t low, uint64_t high)
{
    uint8_t count = 0;
    uint64_t i = 0;
    for (uint64_t k = 0; (UINT64_C(1) << k) < 2 * n; k++) {
        uint64_t parts = UINT64_C(1) << k;
        uint64_t begin = cut(n, i, parts), stop = cut(n, i + 1, parts);
        uint64_t middle = cut(n, 2 * i + 1, 2 * parts);
        bool two = begin < middle && middle < stop;
        if (two && stop == end && begin >= low && begin < high)
            count++;
        i = 2 * i + (end - 1 >= middle);
    }
    return count;
}

uint64_t tree_local(uint64_t n, struct range owned, uint8_t *merges)
{
    uint64_t roots = 0;
    for (uint64_t leaf = owned.begin; leaf < owned.end; leaf++) {
        uint8_t m = merges_at(n, leaf + 1, owned.begin, owned.end);
        merges[leaf - owned.begin] = m;
        roots = roots + 1 - m;
    }
    return roots;
}

uint64_t tree_global(uint64_t n, uint64_t tp_size, uint8_t *merges)
{
    uint64_t roots = 0;
    uint8_t local[PARTITION_LEAVES_MAX];
    for (uint64_t rank = 0; rank < tp_size; rank++) {
        struct range owned = share(n, tp_size, rank);
        uint64_t begins[TREE_STACK_MAX], ends[TREE_STACK_MAX], depth = 0;
        tree_local(n, owned, local);
        for (uint64_t leaf = owned.begin; leaf < owned.end; leaf++) {
            begins[depth] = leaf;
            ends[depth++] = leaf + 1;
            for (uint8_t m = local[leaf - owned.begin]; m; m--) {
                depth--;
                ends[depth - 1] = ends[depth];
            }
        }
        for (uint64_t j = 0; j < depth; j++) /* what ends with this root and began before it */
            merges[roots++] = merges_at(n, ends[j], 0, begins[j]);
    }
    return roots;
}
