/* What export is going to write: files, places, headers that our own parser takes. */
#include "export_plan.h"
#include "le.h"
#include "safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>

static const struct st_tensor *find(const struct safetensors *st, const char *name, size_t len)
{
    for (uint32_t i = 0; i < st->count; i++)
        if (st->tensors[i].name_len == len && memcmp(st->tensors[i].name, name, len) == 0)
            return &st->tensors[i];
    return NULL;
}

/* A bundle of which only the plan exists. */
struct fixture {
    struct source_bundle source;
    struct export_plan plan;
};

static void open_fixture(struct fixture *f, enum dtype dtype, const struct stored *quant,
                         uint64_t file_bytes, json_t *stored)
{
    struct tp_error err = {0};
    struct bundle *b = &f->source.bundle;
    *f = (struct fixture){0};
    b->model = (struct model_config){.n_layers = 3,
                                     .hidden = 64,
                                     .n_heads = 4,
                                     .n_kv_heads = 2,
                                     .head_dim = 16,
                                     .d_ff = 96,
                                     .vocab = 500,
                                     .qkv_bias = true,
                                     .dtype = dtype};
    b->recipe = recipe_of(dtype, quant);
    b->source = stored;
    if (!rank_plan_build(&b->model, b->recipe, 1, 0, &f->source.whole, &err) ||
        !export_plan_build(&f->plan, &f->source, file_bytes, &err))
        fail_msg("%s", err.text);
}

static void close_fixture(struct fixture *f)
{
    export_plan_free(&f->plan);
    rank_plan_free(&f->source.whole);
    json_decref((json_t *)(uintptr_t)f->source.bundle.source);
}

/* Every header parses, and says of every tensor what the plan says. */
static void check_headers(const struct fixture *f)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < f->plan.n_files; i++) {
        const struct export_file *file = &f->plan.files[i];
        struct safetensors st = {0};
        struct findings findings = {.quiet = true};
        struct tp_error err = {0};
        uint64_t n = le_u64((const unsigned char *)file->header);
        assert_int_equal(n + 8, file->header_bytes);
        assert_int_equal(n % 8, 0);
        if (!safetensors_parse(&st, file->name, file->header + 8, n,
                               file->header_bytes + file->data_bytes, &findings, &err))
            fail_msg("%s", err.text);
        for (uint32_t t = 0; t < f->plan.n_tensors; t++) {
            const struct export_tensor *e = &f->plan.tensors[t];
            const struct tensor *whole = &f->source.whole.tensors[e->index];
            char name[TENSOR_NAME_MAX];
            if (e->file != i)
                continue;
            tensor_name(name, whole->role, whole->layer, whole->part);
            const struct st_tensor *found = find(&st, name, strlen(name));
            assert_non_null(found);
            assert_int_equal(found->begin, file->header_bytes + e->begin);
            assert_int_equal(found->end - found->begin, e->bytes);
            assert_int_equal(found->rank, whole->layout == LAYOUT_VECTOR_F32 ? 1 : 2);
            assert_int_equal(found->shape[0], whole->rows);
            count++;
        }
        safetensors_close(&st);
    }
    assert_int_equal(count, f->plan.n_tensors);
}

static void one_file_is_model_safetensors(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, DTYPE_BF16, NULL, EXPORT_FILE_BYTES, NULL);
    assert_int_equal(f.plan.n_files, 1);
    assert_string_equal(f.plan.files[0].name, "model.safetensors");
    assert_int_equal(f.plan.n_tensors, f.source.whole.n_tensors);
    check_headers(&f);
    close_fixture(&f);
}

static void files_hold_no_more_than_asked_for_but_a_larger_tensor_alone(void **state)
{
    (void)state;
    struct fixture f;
    const uint64_t most = 20000; /* the embedding and the LM head are 64000 */
    open_fixture(&f, DTYPE_BF16, NULL, most, NULL);
    assert_true(f.plan.n_files > 3);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < f.plan.n_files; i++) {
        uint32_t tensors = 0;
        char want[EXPORT_NAME_MAX];
        for (uint32_t t = 0; t < f.plan.n_tensors; t++)
            tensors += f.plan.tensors[t].file == i;
        assert_true(f.plan.files[i].data_bytes <= most || tensors == 1);
        snprintf(want, sizeof want, "model-%05u-of-%05u.safetensors", i + 1, f.plan.n_files);
        assert_string_equal(f.plan.files[i].name, want);
        sum += f.plan.files[i].data_bytes;
    }
    assert_int_equal(sum, f.plan.bytes);
    check_headers(&f);
    close_fixture(&f);
}

static void the_index_sends_every_tensor_to_its_file(void **state)
{
    (void)state;
    struct fixture f;
    struct tp_error err = {0};
    size_t n;
    open_fixture(&f, DTYPE_F32, NULL, 50000, NULL);
    char *text = export_index_text(&f.plan, &f.source, &n, &err);
    json_t *root = json_parse("index", text, n, TP_E_JSON, &err);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(root, "metadata"), "total_size")),
        f.plan.bytes);
    const json_t *map = json_object_get(root, "weight_map");
    assert_int_equal(json_object_size(map), f.plan.n_tensors);
    for (uint32_t t = 0; t < f.plan.n_tensors; t++) {
        const struct tensor *whole = &f.source.whole.tensors[f.plan.tensors[t].index];
        char name[TENSOR_NAME_MAX];
        tensor_name(name, whole->role, whole->layer, whole->part);
        assert_string_equal(json_string_value(json_object_get(map, name)),
                            f.plan.files[f.plan.tensors[t].file].name);
    }
    json_decref(root);
    mem_free(text);
    close_fixture(&f);
}

static void scales_are_not_exported_and_codes_become_the_recipes_dtype(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, DTYPE_BF16, stored_of(STORED_INT8), EXPORT_FILE_BYTES, NULL);
    assert_int_equal(f.plan.n_tensors, f.source.whole.n_tensors - 3 * 7);
    for (uint32_t t = 0; t < f.plan.n_tensors; t++) {
        assert_int_equal(f.plan.tensors[t].dtype, DTYPE_BF16);
        assert_true(f.source.whole.tensors[f.plan.tensors[t].index].part != PART_SCALE);
    }
    check_headers(&f);
    close_fixture(&f);
}

static void a_tensor_has_the_dtype_of_the_checkpoint_where_that_is_exact(void **state)
{
    (void)state;
    struct fixture f;
    json_t *stored = json_pack("{s:[{s:s, s:s}, {s:s, s:s}, {s:s, s:s}, i]}", "tensors", "name",
                               "model.embed_tokens.weight", "dtype", "bf16", "name",
                               "model.layers.0.input_layernorm.weight", "dtype", "f16", "name",
                               "some.other.name", "dtype", "bf16", 7);
    open_fixture(&f, DTYPE_F32, NULL, EXPORT_FILE_BYTES, json_incref(stored));
    assert_int_equal(f.plan.tensors[0].dtype, DTYPE_BF16);
    assert_int_equal(f.plan.tensors[1].dtype, DTYPE_F16);
    assert_int_equal(f.plan.tensors[2].dtype, DTYPE_F32); /* the list is not this plan's there */
    assert_int_equal(f.plan.tensors[3].dtype, DTYPE_F32);
    check_headers(&f);
    close_fixture(&f);
    /* f16 does not hold bf16 */
    open_fixture(&f, DTYPE_BF16, NULL, EXPORT_FILE_BYTES, stored);
    assert_int_equal(f.plan.tensors[1].dtype, DTYPE_BF16);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_file_is_model_safetensors),
        cmocka_unit_test(files_hold_no_more_than_asked_for_but_a_larger_tensor_alone),
        cmocka_unit_test(the_index_sends_every_tensor_to_its_file),
        cmocka_unit_test(scales_are_not_exported_and_codes_become_the_recipes_dtype),
        cmocka_unit_test(a_tensor_has_the_dtype_of_the_checkpoint_where_that_is_exact),
    };
    return cmocka_run_group_tests_name("export plan", tests, NULL, NULL);
}
