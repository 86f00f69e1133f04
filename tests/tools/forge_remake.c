/* Another model in place of the one that was there: any small sizes, any recipe and degree, values
 * of every format; rank files and manifest as the writer would make them. */
#include "forge_change.h"

#include "bundle.h"
#include "mem.h"
#include <stdlib.h>

static const char *some_rope(struct forged *f, struct rope_config *rope)
{
    *rope = (struct rope_config){.type = (enum rope_type)forge_below(f, ROPE_YARN + 1),
                                 .theta = forge_chance(f, 80) ? 1e4 : 2,
                                 .factor = 1 + (double)forge_below(f, 40),
                                 .low_freq_factor = 1,
                                 .high_freq_factor = 1 + (double)(1 + forge_below(f, 4)),
                                 .original_positions = (double)(1 + forge_below(f, 5000)),
                                 .beta_fast = (double)(1 + forge_below(f, 64)),
                                 .beta_slow = 1,
                                 .attention_factor = 1,
                                 .truncate = forge_chance(f, 50)};
    return rope_type_name(rope->type);
}

static bool yes(struct forged *f)
{
    return forge_chance(f, 50);
}

static void some_model(struct forged *f, struct model_config *m)
{
    uint64_t groups = 1 + forge_below(f, 4);
    *m = (struct model_config){.architecture = "LlamaForCausalLM", .dtype = DTYPE_BF16};
    m->n_layers = 1 + forge_below(f, 3);
    m->hidden = 1 + forge_below(f, forge_chance(f, 80) ? 80 : 300);
    m->n_kv_heads = 1 + forge_below(f, 4);
    m->n_heads = m->n_kv_heads * groups;
    m->head_dim = 2 * (1 + forge_below(f, forge_chance(f, 80) ? 10 : 70));
    m->d_ff = 1 + forge_below(f, 150);
    m->vocab = forge_chance(f, 95) ? 4 + forge_below(f, 70) : 1;
    m->max_positions = 1 + forge_below(f, 100);
    m->rms_eps = 1e-5;
    m->tied_embeddings = yes(f);
    m->qkv_bias = yes(f);
    m->o_bias = yes(f);
    m->mlp_bias = yes(f);
    m->qk_norm = yes(f);
    for (uint64_t i = 0; i < m->n_layers; i++)
        m->window[i] = yes(f) ? 0 : forge_below(f, 5);
    m->bos_id = m->pad_id = -1;
    m->n_eos = 0;
    forge_say(f, " %llu layers, hidden %llu, %llu/%llu heads of %llu, ff %llu, vocab %llu, rope %s",
              (unsigned long long)m->n_layers, (unsigned long long)m->hidden,
              (unsigned long long)m->n_heads, (unsigned long long)m->n_kv_heads,
              (unsigned long long)m->head_dim, (unsigned long long)m->d_ff,
              (unsigned long long)m->vocab, some_rope(f, &m->rope));
}

static struct recipe some_recipe(struct forged *f)
{
    struct recipe recipe = recipe_of((enum dtype)(1 + forge_below(f, 3)), NULL);
    for (int role = 0; role < ROLE_COUNT; role++)
        if (role_is_quantized((enum role)role) && forge_chance(f, 70))
            recipe.stored[role] =
                (uint8_t)(STORED_INT8 + forge_below(f, STORED_COUNT - STORED_INT8));
    return recipe;
}

/* Words that are tame as f32, as two of 16 bits, and as codes; the same for what all ranks hold. */
static void fill(const struct tensor *t, unsigned char *p, uint64_t n)
{
    struct forged words = {.random = (uint64_t)t->role << 40 | (uint64_t)t->part << 32 | t->layer};
    for (uint64_t i = 0; i + 4 <= n; i += 4) {
        uint64_t r = forge_next(&words);
        uint32_t word = 0x3d003d00u | ((uint32_t)r & 0x80ff80ffu);
        memcpy(p + i, &word, sizeof word);
    }
}

/* The chunks of a rank, from data's begin on; returns the bytes of the data area. */
static uint64_t put_chunks(const struct rank_plan *plan, struct shard_head *head,
                           unsigned char *data, unsigned char *raw)
{
    uint64_t at = 0;
    unsigned char *scratch = raw + SHARD_CHUNK_BYTES;
    for (uint32_t i = 0; i < plan->n_tensors; i++) {
        const struct tensor *t = &plan->tensors[i];
        for (uint32_t c = 0; c < t->n_chunks; c++) {
            uint64_t n = tensor_chunk_bytes(t, c), bytes = n;
            if (head->compress == COMPRESS_NONE)
                at = t->offset + c * t->chunk_bytes;
            fill(t, raw, n);
            if (head->compress == COMPRESS_NONE)
                memcpy(data + at, raw, n);
            else
                bytes = shard_compress(raw, n, tensor_plane_bytes(t), scratch, data + at,
                                       shard_compress_bound(n), NULL);
            head->chunks[t->first_chunk + c] =
                (struct chunk){hash_bytes(raw, n), hash_bytes(data + at, bytes), at, bytes};
            at += bytes;
        }
    }
    return head->compress == COMPRESS_NONE
               ? plan->data_bytes
               : (at + SHARD_FILE_ALIGN - 1) / SHARD_FILE_ALIGN * SHARD_FILE_ALIGN;
}

static void make_rank(struct forged *f, struct bundle *b, uint64_t r, struct shard_head *head,
                      unsigned char *raw)
{
    const struct rank_plan *plan = &b->plans[r];
    struct forged_file *file = &f->ranks[r];
    *head = (struct shard_head){.compress = b->compress, .bundle_id = b->bundle_id};
    head->chunks = mem_array(plan->n_chunks, sizeof *head->chunks, NULL);
    unsigned char *bytes = mem_alloc(plan->data_offset + 2 * plan->data_bytes + (1 << 16), NULL);
    head->data_file_bytes = put_chunks(plan, head, bytes + plan->data_offset, raw);
    unsigned char *start = shard_head_write(&b->model, plan, head, NULL);
    memcpy(bytes, start, plan->data_offset);
    mem_free(start);
    *file = (struct forged_file){.bytes = bytes, .n = plan->data_offset + head->data_file_bytes};
    rank_file_name(file->name, r, b->tp_size);
    b->ranks[r] = (struct bundle_rank){file->n, hash_bytes(bytes, SHARD_HEADER_BYTES)};
}

static void drop_ranks(struct forged *f)
{
    for (uint32_t r = 0; r < f->n_ranks; r++)
        mem_free(f->ranks[r].bytes);
    f->n_ranks = 0;
}

/* The parts of the manifest that stay. */
static void take_over(const struct forged *f, struct bundle *b)
{
    b->source = json_object_get(f->manifest, "source");
    b->templates = json_object_get(f->manifest, "chat_templates");
    b->n_files = f->n_files;
    for (uint32_t i = 0; i < f->n_files; i++) {
        b->files[i] = (struct bundle_file){.bytes = f->files[i].n,
                                           .hash = hash_bytes(f->files[i].bytes, f->files[i].n)};
        memcpy(b->files[i].name, f->files[i].name, sizeof b->files[i].name);
    }
}

void forge_remake(struct forged *f)
{
    static struct bundle b;
    static struct shard_head heads[FORGE_RANKS_MAX];
    static struct rank_plan plans[FORGE_RANKS_MAX];
    static struct bundle_rank ranks[FORGE_RANKS_MAX];
    struct tp_error err = {0};
    size_t n;
    b = (struct bundle){.plans = plans, .ranks = ranks};
    take_over(f, &b);
    some_model(f, &b.model);
    b.recipe = some_recipe(f);
    b.compress = yes(f) ? COMPRESS_ZSTD : COMPRESS_NONE;
    b.tp_size = 1 + forge_below(f, forge_chance(f, 90) ? 5 : FORGE_RANKS_MAX);
    forge_say(f, ", %s, %llu ranks", recipe_quant_name(&b.recipe), (unsigned long long)b.tp_size);
    if (!model_config_check(&b.model, "remade", &err) || !bundle_id_of(&b, &b.bundle_id, &err)) {
        forge_say(f, " (%s)", err.text);
        return;
    }
    drop_ranks(f);
    unsigned char *raw = mem_alloc(2 * SHARD_CHUNK_BYTES, &err);
    for (uint64_t r = 0; r < b.tp_size; r++) {
        tp_assert(rank_plan_build(&b.model, b.recipe, b.tp_size, r, &plans[r], &err));
        make_rank(f, &b, r, &heads[r], raw);
    }
    f->n_ranks = (uint32_t)b.tp_size;
    char *text = bundle_manifest_text(&b, heads, &n, &err);
    json_decref(f->manifest);
    f->manifest = json_parse("remade", text, n, TP_E_MANIFEST, &err);
    for (uint64_t r = 0; r < b.tp_size; r++) {
        mem_free(heads[r].chunks);
        rank_plan_free(&plans[r]);
    }
    mem_free(text);
    mem_free(raw);
}
