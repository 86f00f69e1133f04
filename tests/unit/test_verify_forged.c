/* Damage whose hashes were made anew: chunk, table, header and manifest agree, and still verify
 * finds it. */
#include "commands.h"
#include "output_file.h"
#include "source_bundle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[] = "/tmp/tpshard-forged-XXXXXX";
static char bundle_dir[128];

/* The exit status; text is the error's. */
static int run(const struct command *command, int argc, const char *const *argv, char text[1024])
{
    struct tp_error err = {0};
    struct options options;
    bool ok = options_parse(&options, command->id, argc, (char **)(uintptr_t)argv, &err) &&
              command->run(&options, &err);
    snprintf(text, 1024, "%s", err.text);
    return ok ? TP_EXIT_OK : (int)tp_code_exit(err.code);
}

static int make_bundle(void **state)
{
    (void)state;
    char text[1024];
    assert_non_null(mkdtemp(folder));
    snprintf(bundle_dir, sizeof bundle_dir, "%s/bundle", folder);
    const char *const argv[] = {"convert",
                                "tests/data/checkpoints/qwen2-bias",
                                "-o",
                                bundle_dir,
                                "--tp",
                                "8",
                                "--no-selftest",
                                "-q",
                                "--force",
                                NULL};
    assert_int_equal(run(&command_convert, 9, argv, text), 0);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* Change a byte of a rank's tensor of layer 0, and make all hashes anew. */
static void forge_tensor(uint64_t rank, enum role role, enum part part, uint64_t at)
{
    struct source_bundle s;
    struct tp_error err = {0};
    char path[IO_PATH_MAX], *data, *text;
    size_t size, n;
    if (!source_bundle_open(&s, bundle_dir, &err))
        fail_msg("%s", err.text);
    const struct rank_plan *plan = &s.bundle.plans[rank];
    const struct tensor *t = rank_plan_find(plan, role, 0, part);
    struct shard_head heads[8];
    for (int r = 0; r < 8; r++)
        heads[r] = s.shards[r].head;
    assert_true(io_read_file(s.shards[rank].path, 1 << 30, &data, &size, &err));
    unsigned char *bytes = (unsigned char *)data + plan->data_offset + t->offset;
    bytes[at] ^= 1;
    struct chunk *chunk = &heads[rank].chunks[t->first_chunk];
    chunk->raw_hash = chunk->file_hash = hash_bytes(bytes, tensor_chunk_bytes(t, 0));
    unsigned char *head = shard_head_write(&s.bundle.model, plan, &heads[rank], &err);
    memcpy(data, head, plan->data_offset);
    s.bundle.ranks[rank].head_hash = hash_bytes(head, SHARD_HEADER_BYTES);
    assert_true(output_file_put(s.shards[rank].path, data, size, &err));
    text = bundle_manifest_text(&s.bundle, heads, &n, &err);
    assert_non_null(text);
    assert_true(io_join(path, bundle_dir, BUNDLE_MANIFEST, &err));
    assert_true(output_file_put(path, text, n, &err));
    mem_free(text);
    mem_free(head);
    mem_free(data);
    source_bundle_close(&s);
}

static void expect(int status, const char *words)
{
    char text[1024];
    const char *const argv[] = {"verify", bundle_dir, "-q", NULL};
    int found = run(&command_verify, 3, argv, text);
    if (found != status || !strstr(text, words))
        fail_msg("exit %d, %d expected: %s", found, status, text);
}

static void forging_nothing_is_accepted(void **state)
{
    (void)state;
    forge_tensor(1, ROLE_K, PART_WEIGHT, 5);
    forge_tensor(1, ROLE_K, PART_WEIGHT, 5);
    expect(0, "");
}

/* 14 heads, 2 KV heads, 8 ranks: ranks 0 to 3 hold KV head 0 */
static void a_kv_head_that_two_ranks_hold_differently_is_found(void **state)
{
    (void)state;
    forge_tensor(1, ROLE_K, PART_WEIGHT, 5);
    expect(7, "rank-001-of-008.tps: tensor \"model.layers.0.self_attn.k_proj.weight\": row ");
    forge_tensor(1, ROLE_K, PART_WEIGHT, 5);
    forge_tensor(3, ROLE_V, PART_BIAS, 8);
    expect(7, "rank-003-of-008.tps: tensor \"model.layers.0.self_attn.v_proj.bias\": row 2 ");
    forge_tensor(3, ROLE_V, PART_BIAS, 8);
}

static void a_norm_that_two_ranks_hold_differently_is_found(void **state)
{
    (void)state;
    forge_tensor(7, ROLE_ATTN_NORM, PART_WEIGHT, 4 * 100 + 2);
    expect(7, "rank-007-of-008.tps: tensor \"model.layers.0.input_layernorm.weight\": row 100 ");
    forge_tensor(7, ROLE_ATTN_NORM, PART_WEIGHT, 4 * 100 + 2);
    expect(0, "");
}

/* The manifest with one text replaced by another, and a digest that is right */
static void forge_manifest(const char *before, const char *after)
{
    char path[IO_PATH_MAX], *text = NULL, hex[33];
    struct tp_error err = {0};
    size_t n = 0;
    assert_true(io_join(path, bundle_dir, BUNDLE_MANIFEST, &err) &&
                io_read_file(path, 1 << 30, &text, &n, &err));
    char *at = strstr(text, before);
    assert_non_null(at);
    assert_int_equal(strlen(before), strlen(after));
    memcpy(at, after, strlen(after));
    hash_to_hex(hash_bytes(text, n - 36), hex);
    memcpy(text + n - 36, hex, 32);
    assert_true(output_file_put(path, text, n, &err));
    mem_free(text);
}

static void a_field_of_the_manifest_that_ranks_do_not_imply_is_found(void **state)
{
    (void)state;
    forge_manifest("\"layout\": 2", "\"layout\": 1");
    expect(3, "manifest.json: not what model, recipe and rank files imply");
    forge_manifest("\"layout\": 1", "\"layout\": 2");
    expect(0, "");
}

static void a_hash_of_the_manifest_that_is_not_the_tables_is_found(void **state)
{
    (void)state;
    char path[IO_PATH_MAX], *text = NULL, before[64], after[64];
    struct tp_error err = {0};
    size_t n;
    assert_true(io_join(path, bundle_dir, BUNDLE_MANIFEST, &err) &&
                io_read_file(path, 1 << 30, &text, &n, &err));
    const char *at = strstr(strstr(strstr(text, "\"ranks\""), "k_proj.weight\""), "\"hash\": \"");
    snprintf(before, sizeof before, "%.41s", at);
    snprintf(after, sizeof after, "%.41s", at);
    after[40] = after[40] == '0' ? '1' : '0';
    mem_free(text);
    forge_manifest(before, after);
    expect(7, "hash is not the manifest's");
    forge_manifest(after, before);
    expect(0, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forging_nothing_is_accepted),
        cmocka_unit_test(a_kv_head_that_two_ranks_hold_differently_is_found),
        cmocka_unit_test(a_norm_that_two_ranks_hold_differently_is_found),
        cmocka_unit_test(a_field_of_the_manifest_that_ranks_do_not_imply_is_found),
        cmocka_unit_test(a_hash_of_the_manifest_that_is_not_the_tables_is_found),
    };
    return cmocka_run_group_tests_name("verify, forged", tests, make_bundle, remove_folder);
}
