/* Rows 34 and 36 to 45 of the fault catalogue: a model folder, and what opening it says or gives.
 */
#include "checkpoint.h"
#include "checkpoint_index.h"
#include "st_fixture.h"

#include <dirent.h>

#define INDEX "model.safetensors.index.json"

/* Open it, and use every tensor that the index names. */
static bool open_folder(const char *path, struct tp_error *err)
{
    struct checkpoint ck;
    bool ok = checkpoint_open(&ck, path, &findings, err), opened = ok;
    for (uint32_t i = 0; ok && i < ck.index.count; i++)
        ok = checkpoint_use(&ck, ck.index.entries[i].name, err) != NULL;
    if (!opened)
        assert_null(ck.files);
    checkpoint_close(&ck);
    checkpoint_close(&ck);
    return ok;
}

#define REFUSE_FOLDER(code, exit_code, ...)                                                        \
    expect_refusal(open_folder, fixture_dir, code, exit_code,                                      \
                   (const char *const[]){__VA_ARGS__, NULL})

static void must_open_folder(struct checkpoint *ck)
{
    struct tp_error err = {0};
    findings = (struct findings){.quiet = true};
    if (!checkpoint_open(ck, fixture_dir, &findings, &err))
        fail_msg("%s", err.text);
}

/* What checkpoint_check_index says: nothing (NULL), or one warning that begins so. */
static void index_warns(const struct checkpoint *ck, const char *text)
{
    struct tp_error err = {0};
    struct findings strict = {.quiet = true, .strict = true};
    findings.warnings = 0;
    assert_true(checkpoint_check_index(ck, &findings, &err));
    assert_int_equal(findings.warnings, text != NULL);
    assert_int_equal(checkpoint_check_index(ck, &strict, &err), text == NULL);
    if (text && strncmp(err.text, text, strlen(text)) != 0)
        fail_msg("\"%s\" expected: %s", text, err.text);
}

/* A file of one-byte tensors named by single letters, values 0, 1, ... */
static void put_letters(const char *file, const char *letters)
{
    struct text t = {0};
    for (size_t i = 0; letters[i]; i++)
        add(&t, "%c\"%c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}",
            i ? ',' : '{', letters[i], i, i + 1);
    add(&t, "}");
    put_drop(file, &t, strlen(letters));
}

/* An index with the given metadata, of lines "letter file". */
static void put_index(const char *metadata, const char *const *pairs)
{
    struct text t = {0};
    add(&t, "{%s\"weight_map\":{", metadata);
    for (size_t i = 0; pairs[i]; i++)
        add(&t, "%s\"%c\":\"%s\"", i ? "," : "", pairs[i][0], pairs[i] + 2);
    add(&t, "}}");
    put(INDEX, t.data, t.n);
    free(t.data);
}
#define PUT_INDEX(metadata, ...) put_index(metadata, (const char *const[]){__VA_ARGS__, NULL})

static int value_of(const struct checkpoint *ck, const struct checkpoint_tensor *t)
{
    return *safetensors_data(checkpoint_file(ck, t), t->tensor);
}

/* ---- what is accepted ---- */

static void a_single_file_is_a_model(void **state)
{
    (void)state;
    static const char *const names[] = {"model.safetensors", "weights.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        struct checkpoint ck;
        struct tp_error err = {0};
        put_letters(names[i], "ba");
        put_text("._model.safetensors", "not a model"); /* hidden files are none of ours */
        must_open_folder(&ck);
        assert_string_equal(ck.source, names[i]);
        assert_int_equal(ck.count, 2);
        assert_int_equal(findings.warnings, 0);
        index_warns(&ck, NULL);
        struct checkpoint_tensor *a = checkpoint_use(&ck, "a", &err);
        assert_non_null(a);
        assert_int_equal(value_of(&ck, a), 1);
        assert_true(a->used && !checkpoint_find(&ck, "b")->used);
        assert_null(checkpoint_find(&ck, "c"));
        assert_true(checkpoint_unchanged(&ck, &err));
        checkpoint_close(&ck);
        unlink(at(names[i]));
    }
}

static void an_index_makes_many_files_one_model(void **state)
{
    (void)state;
    struct checkpoint ck;
    struct tp_error err = {0};
    put_letters("m-1.safetensors", "ad");
    put_letters("m-2.safetensors", "bc");
    put_letters("consolidated.safetensors", "z"); /* not in the index: not opened, not named */
    PUT_INDEX("\"metadata\":{\"total_size\":4.0,\"x\":[{}]},\"y\":[1],", "a m-1.safetensors",
              "b m-2.safetensors", "c m-2.safetensors", "d m-1.safetensors");
    must_open_folder(&ck);
    assert_int_equal(ck.file_count, 2);
    index_warns(&ck, NULL);
    for (int i = 0; i < 4; i++) {
        struct checkpoint_tensor *t = checkpoint_use(&ck, (char[]){(char)('a' + i), 0}, &err);
        assert_non_null(t);
        assert_int_equal(value_of(&ck, t), i == 2 || i == 3);
        assert_string_equal(checkpoint_file(&ck, t)->name,
                            i == 0 || i == 3 ? "m-1.safetensors" : "m-2.safetensors");
    }
    assert_null(checkpoint_find(&ck, "z"));
    checkpoint_close(&ck);
}

static void warnings_of_files_are_the_models(void **state)
{
    (void)state;
    struct checkpoint ck;
    put_st("model.safetensors",
           "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],"
           "\"device\":\"cpu\"}}",
           1);
    must_open_folder(&ck);
    assert_int_equal(findings.warnings, 1);
    checkpoint_close(&ck);
}

static void checkpoints_of_the_collection_open(void **state)
{
    (void)state;
    const char *shared = getenv("SHARED");
    char folder[512], path[1024];
    snprintf(folder, sizeof folder, "%s/checkpoints", shared ? shared : "../shared");
    DIR *dir = opendir(folder);
    if (!dir) {
        print_message("SKIP: no %s\n", folder);
        skip();
    }
    int opened = 0;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct checkpoint ck;
        struct tp_error err = {0};
        snprintf(path, sizeof path, "%s/%s/config.json", folder, entry->d_name);
        if (access(path, R_OK) != 0)
            continue;
        *strrchr(path, '/') = '\0';
        if (!checkpoint_open(&ck, path, &findings, &err))
            fail_msg("%s", err.text);
        assert_true(ck.count > 0);
        index_warns(&ck, NULL);
        checkpoint_close(&ck);
        opened++;
    }
    closedir(dir);
    print_message("%d checkpoints\n", opened);
}

/* ---- row 34: needed tensors ---- */

static void row_34_a_needed_tensor_is_there_once(void **state)
{
    (void)state;
    struct checkpoint ck;
    struct tp_error err = {0};
    put_letters("m-1.safetensors", "abe");
    put_letters("m-2.safetensors", "ebc");
    PUT_INDEX("", "a m-1.safetensors", "b m-2.safetensors");
    must_open_folder(&ck);
    struct checkpoint_tensor *t = checkpoint_use(&ck, "b", &err); /* in both: the index's */
    assert_non_null(t);
    assert_string_equal(checkpoint_file(&ck, t)->name, "m-2.safetensors");
    t = checkpoint_use(&ck, "c", &err); /* not in the index, and there once */
    assert_non_null(t);
    assert_int_equal(value_of(&ck, t), 2);
    assert_null(checkpoint_find(&ck, "e")); /* in both, not in the index */
    static const struct {
        const char *name;
        const char *needles[4];
    } rows[] = {
        {"d", {INDEX ": tensor \"d\" is needed and missing"}},
        {"e", {"m-1.safetensors: tensor \"e\"", "m-2.safetensors again"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        err = (struct tp_error){0};
        assert_null(checkpoint_use(&ck, rows[i].name, &err));
        check_error(&err, TP_E_ST_TENSOR, TP_EXIT_INPUT, rows[i].needles);
    }
    char name[5000]; /* any name can be asked for */
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    err = (struct tp_error){0};
    assert_null(checkpoint_use(&ck, name, &err));
    check_error(&err, TP_E_ST_TENSOR, TP_EXIT_INPUT, (const char *const[]){"(4999 bytes)", NULL});
    checkpoint_close(&ck);
}

static void a_name_that_ends_alike_is_found(void **state)
{
    (void)state;
    struct checkpoint ck;
    put_st("model.safetensors",
           "{\"a.norm.weight\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
           "\"Layer.X\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
           0);
    must_open_folder(&ck);
    static const struct {
        const char *ending, *name;
    } rows[] = {{"norm.weight", "a.norm.weight"},
                {"weight", "a.norm.weight"},
                {"a.norm.weight", "a.norm.weight"},
                {"rm.weight", NULL},
                {"layer.x", "Layer.X"},
                {"b.a.norm.weight", NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct st_tensor *t = checkpoint_find_ending(&ck, rows[i].ending);
        assert_int_equal(t != NULL, rows[i].name != NULL);
        assert_true(!t || strncmp(t->name, rows[i].name, t->name_len) == 0);
    }
    checkpoint_close(&ck);
}

/* ---- rows 36 to 41: the index ---- */

static void row_36_a_file_outside_the_folder_is_never_opened(void **state)
{
    (void)state;
    /* A target that was opened would be "not a regular file" or absent, not a path. */
    assert_int_equal(mkfifo(at("fifo.safetensors"), 0600), 0);
    static const struct {
        const char *value, *shown;
    } rows[] = {
        {"../fifo.safetensors", "\"../fifo.safetensors\""},
        {"./fifo.safetensors", "\"./fifo.safetensors\""},
        {"/dev/zero", "\"/dev/zero\""},
        {"a/b.safetensors", "\"a/b.safetensors\""},
        {"..", "\"..\""},
        {".", "\".\""},
        {"", "\"\""},
        {"fifo.safetensors\\u0000", "\"fifo.safetensors"},
        {"a\\\\b.safetensors", "\"a\\b.safetensors\""},
        {"a\\nb.safetensors", "\"a\\x0ab.safetensors\""},
        {"pytorch_model.bin", "\"pytorch_model.bin\""},
        {".safetensors", "\".safetensors\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char pair[128];
        snprintf(pair, sizeof pair, "w %s", rows[i].value);
        PUT_INDEX("", "a fifo.safetensors", pair);
        REFUSE_FOLDER(TP_E_IX_PATH, TP_EXIT_INPUT, INDEX ": weight_map: \"w\": ", rows[i].shown);
    }
    struct text t = {0};
    add(&t, "w ");
    repeat(&t, "n", 300);
    add(&t, ".safetensors");
    PUT_INDEX("", t.data);
    free(t.data);
    REFUSE_FOLDER(TP_E_IX_PATH, TP_EXIT_INPUT, INDEX ": weight_map: \"w\": ", "(312 bytes)");
}

static void row_37_all_missing_files_are_listed_in_one_line(void **state)
{
    (void)state;
    put_letters("m-1.safetensors", "a");
    put_letters("m-2.safetensors", "b");
    put_letters("m-4.safetensors", "d");
    PUT_INDEX("", "a m-1.safetensors", "b m-2.safetensors", "c m-3.safetensors",
              "d m-4.safetensors");
    REFUSE_FOLDER(TP_E_IX_MISSING, TP_EXIT_INPUT, INDEX ": 1 of 4 files missing: m-3.safetensors");
    unlink(at("m-1.safetensors"));
    REFUSE_FOLDER(TP_E_IX_MISSING, TP_EXIT_INPUT,
                  INDEX ": 2 of 4 files missing: m-1.safetensors, m-3.safetensors");
    struct text t = {0};
    add(&t, "{\"weight_map\":{");
    for (int i = 0; i < 1000; i++)
        add(&t, "%s\"t%d\":\"none-%04d.safetensors\"", i ? "," : "", i, i);
    add(&t, "}}");
    put(INDEX, t.data, t.n);
    free(t.data);
    REFUSE_FOLDER(TP_E_IX_MISSING, TP_EXIT_INPUT, INDEX ": 1000 of 1000 files missing: none-0000",
                  ", ...");
}

static void row_37_a_missing_file_that_nothing_needs_is_a_warning(void **state)
{
    (void)state;
    struct checkpoint ck;
    struct tp_error err = {0};
    put_letters("m-1.safetensors", "a");
    PUT_INDEX("", "a m-1.safetensors", "b m-2.safetensors", "c m-3.safetensors");
    must_open_folder(&ck);
    assert_non_null(checkpoint_use(&ck, "a", &err));
    index_warns(&ck, INDEX ": 2 of 3 files missing: m-2.safetensors, m-3.safetensors: nothing");
    assert_null(checkpoint_use(&ck, "c", &err));
    check_error(&err, TP_E_IX_MISSING, TP_EXIT_INPUT,
                (const char *const[]){INDEX ": 2 of 3 files missing: ", "\"c\" is needed", NULL});
    checkpoint_close(&ck);
}

static void row_38_a_tensor_sent_to_the_wrong_file_is_refused(void **state)
{
    (void)state;
    put_letters("m-1.safetensors", "ab");
    put_letters("m-2.safetensors", "c");
    PUT_INDEX("", "a m-1.safetensors", "b m-2.safetensors", "c m-2.safetensors");
    REFUSE_FOLDER(TP_E_IX_WRONG, TP_EXIT_INPUT,
                  INDEX ": weight_map: tensor \"b\" is needed and not in "
                        "m-2.safetensors but in m-1.safetensors");
    PUT_INDEX("", "a m-1.safetensors", "c m-2.safetensors", "d m-2.safetensors");
    REFUSE_FOLDER(TP_E_IX_WRONG, TP_EXIT_INPUT,
                  INDEX ": weight_map: tensor \"d\" is needed and not in "
                        "m-2.safetensors");
    struct checkpoint ck;
    struct tp_error err = {0};
    must_open_folder(&ck); /* not needed: no more than a note */
    assert_non_null(checkpoint_use(&ck, "a", &err));
    assert_non_null(checkpoint_use(&ck, "b", &err));
    index_warns(&ck, INDEX ": 1 tensors of the files are not in the index: \"b\"");
    checkpoint_close(&ck);
}

static void row_39_a_tensor_not_in_the_index_is_a_warning(void **state)
{
    (void)state;
    struct checkpoint ck;
    put_letters("m-1.safetensors", "abc");
    PUT_INDEX("", "a m-1.safetensors");
    must_open_folder(&ck);
    index_warns(&ck, INDEX ": 2 tensors of the files are not in the index: \"b\", ...");
    assert_int_equal(ck.count, 3); /* in the table, for the list of unused ones */
    assert_true(ck.tensors[0].indexed && !ck.tensors[1].indexed && !ck.tensors[2].used);
    assert_non_null(checkpoint_find(&ck, "b")); /* there once: it is clear which is meant */
    checkpoint_close(&ck);
}

static void row_40_an_index_that_contradicts_itself_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *needle;
        enum tp_code code;
    } rows[] = {
        {"{\"weight_map\":{\"a\":\"m.safetensors\",\"b\":\"m.safetensors\",\"a\":\"m.safetensors\"}"
         "}",
         "weight_map: \"a\" stands twice", TP_E_IX_FIELD},
        {"{\"weight_map\":{\"a\":\"m.safetensors\",\"\\u0061\":\"n.safetensors\"}}",
         "weight_map: \"a\" stands twice", TP_E_IX_FIELD},
        {"{\"weight_map\":{\"a\":\"m.safetensors\"},\"weight_map\":{}}", "weight_map stands twice",
         TP_E_IX_FIELD},
        {"{\"metadata\":{},\"metadata\":{},\"weight_map\":{\"a\":\"m.safetensors\"}}",
         "metadata stands twice", TP_E_IX_FIELD},
        {"{\"metadata\":{\"total_size\":1,\"total_size\":1}}", "total_size stands twice",
         TP_E_IX_FIELD},
        {"{\"weight_map\":[]}", "weight_map: an object expected, an array", TP_E_IX_FIELD},
        {"{\"weight_map\":{\"a\":null}}", "a: a file name expected, null found", TP_E_IX_FIELD},
        {"{\"weight_map\":{}}", "weight_map is empty", TP_E_IX_FIELD},
        {"{}", "weight_map is missing", TP_E_IX_FIELD},
        {"{\"weight_map\":{\"\":\"m.safetensors\"}}", "1 to 1024", TP_E_ST_NAME},
        {"{\"weight_map\":{\"a\\u0000\":\"m.safetensors\"}}", "1 to 1024", TP_E_ST_NAME},
        {"", "JSON ends at offset 0", TP_E_JSON},
        {"[]", "'[' at offset 0", TP_E_JSON},
        {"{\"weight_map\":{\"a\":\"\xff\"}}", "byte 0xff at offset 20", TP_E_JSON},
    };
    put_letters("m.safetensors", "ab");
    put_letters("n.safetensors", "a");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_text(INDEX, rows[i].text);
        REFUSE_FOLDER(rows[i].code, TP_EXIT_INPUT, INDEX ": ", rows[i].needle);
    }
    struct text t = {0};
    add(&t, "{\"x\":");
    repeat(&t, "[", 1000000);
    put(INDEX, t.data, t.n);
    free(t.data);
    REFUSE_FOLDER(TP_E_JSON, TP_EXIT_INPUT, INDEX ": JSON nested deeper than 64");
}

static void row_40_a_wrong_total_size_is_no_more_than_a_note(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "{\"total_size\":3}",
        "{\"total_size\":1180591620717411303424}",
        "{\"total_size\":1.5}",
        "{\"total_size\":1e300}",
        "{\"total_size\":0}",
        "{\"total_size\":-1}",
        "{\"total_size\":\"2\"}",
        "{\"total_size\":null}",
        "{\"total_size\":[{}, 1]}",
        "{\"total_size\":true}",
        "7",
        "[]",
        "null",
    };
    put_letters("m.safetensors", "ab");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct checkpoint ck;
        char metadata[128];
        snprintf(metadata, sizeof metadata, "\"metadata\":%s,", wrong[i]);
        PUT_INDEX(metadata, "a m.safetensors", "b m.safetensors");
        must_open_folder(&ck);
        index_warns(&ck, NULL);
        checkpoint_close(&ck);
    }
}

static void an_index_cut_at_any_byte_is_refused(void **state)
{
    (void)state;
    static const char text[] =
        "{\"metadata\": {\"total_size\": 12}, \"weight_map\": {\"a\\u0062\": "
        "\"m.safetensors\", \"b\": \"n.safetensors\"}}";
    struct checkpoint_index index;
    struct tp_error whole = {0};
    assert_true(checkpoint_index_parse(&index, INDEX, text, sizeof text - 1, &whole));
    assert_int_equal(index.count, 2);
    assert_int_equal(index.file_count, 2);
    checkpoint_index_free(&index);
    for (size_t n = 0; n < sizeof text - 1; n++) {
        struct tp_error err = {0};
        char *exact = malloc(n ? n : 1); /* no byte after it may be read */
        memcpy(exact, text, n);
        assert_false(checkpoint_index_parse(&index, INDEX, exact, n, &err));
        free(exact);
        assert_int_equal(err.code, TP_E_JSON);
        assert_non_null(strstr(err.text, "at offset"));
    }
}

static void an_index_takes_memory_by_its_size(void **state)
{
    (void)state;
    struct text t = {0};
    add(&t, "{\"x\":[");
    repeat(&t, "[],{},\"\",0,", 1000000);
    add(&t, "0],\"weight_map\":{");
    for (int i = 0; i < 200000; i++)
        add(&t, "%s\"%d\":\"%d.safetensors\"", i ? "," : "", i, i);
    add(&t, "}}");
    size_t n = t.n;
    put(INDEX, t.data, t.n);
    free(t.data);
    REFUSE_FOLDER(TP_E_IX_MISSING, TP_EXIT_INPUT, INDEX ": 200000 of 200000 files missing");
    assert_true(peak_of(open_folder, fixture_dir, false) <= 64 * MIB + 4 * n);
}

static void more_tensors_than_allowed_in_all_files_are_refused(void **state)
{
    (void)state;
    for (int f = 0; f < 2; f++) {
        struct text t = {0};
        for (uint32_t i = 0; i < ST_TENSORS_MAX / 2 + (uint32_t)f; i++)
            add(&t, "%c\"%d.%u\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                i ? ',' : '{', f, i);
        add(&t, "}");
        put_drop(f ? "n.safetensors" : "m.safetensors", &t, 0);
    }
    put_text(INDEX, "{\"weight_map\":{\"0.1\":\"m.safetensors\",\"1.1\":\"n.safetensors\"}}");
    REFUSE_FOLDER(TP_E_ST_COUNT, TP_EXIT_LIMIT, INDEX ": more than 1048576 tensors in all files");
}

static void row_41_the_whole_file_comes_before_an_index(void **state)
{
    (void)state;
    struct checkpoint ck;
    struct tp_error err = {0};
    put_letters("model.safetensors", "ab");
    put_letters("m-1.safetensors", "abc");
    PUT_INDEX("", "a m-1.safetensors", "b m-1.safetensors", "c m-1.safetensors");
    must_open_folder(&ck);
    assert_string_equal(ck.source, "model.safetensors");
    assert_true(ck.index_beside && ck.file_count == 1 && ck.index.count == 0);
    index_warns(&ck, NULL);
    assert_null(checkpoint_find(&ck, "c"));
    assert_true(checkpoint_turn_to_index(&ck, &findings, &err));
    assert_string_equal(ck.source, INDEX);
    assert_false(ck.index_beside);
    assert_non_null(checkpoint_use(&ck, "c", &err));
    checkpoint_close(&ck);
    put_text(INDEX, "nothing that anybody reads");
    must_open_folder(&ck);
    assert_false(checkpoint_turn_to_index(&ck, &findings, &err));
    assert_int_equal(err.code, TP_E_JSON);
    assert_non_null(checkpoint_use(&ck, "a", &err)); /* as it was */
    checkpoint_close(&ck);
}

static void row_41_several_files_without_an_index_are_ambiguous(void **state)
{
    (void)state;
    struct checkpoint ck;
    put_letters("m-0.safetensors", "ab");
    put_letters("m-1.safetensors", "ab");
    put_letters("m-2.safetensors", "ab");
    REFUSE_FOLDER(TP_E_IX_AMBIGUOUS, TP_EXIT_INPUT, fixture_dir,
                  "3 .safetensors files and no index", "m-0.safetensors, m-1.safetensors, ...");
    unlink(at("m-0.safetensors"));
    unlink(at("m-1.safetensors"));
    static const char *const aside[] = {"adapter_model.safetensors", "consolidated.safetensors",
                                        "consolidated-1-of-2.safetensors"};
    for (size_t i = 0; i < sizeof aside / sizeof *aside; i++)
        put_letters(aside[i], "z"); /* of an adapter, and in another program's names */
    must_open_folder(&ck);
    assert_string_equal(ck.source, "m-2.safetensors");
    checkpoint_close(&ck);
    unlink(at("m-2.safetensors"));
    unlink(at(aside[1]));
    must_open_folder(&ck);
    assert_string_equal(ck.source, aside[2]);
    checkpoint_close(&ck);
    unlink(at(aside[2]));
    REFUSE_FOLDER(TP_E_UNSUPPORTED, TP_EXIT_UNSUPPORTED, fixture_dir, "an adapter",
                  "merge_and_unload");
    unlink(at(aside[0]));
    put_text("x-Q4_K_M.gguf", "GGUF");
    put_text("pytorch_model.bin", "");
    REFUSE_FOLDER(TP_E_UNSUPPORTED, TP_EXIT_UNSUPPORTED, fixture_dir, "x-Q4_K_M.gguf",
                  "tpshard reads safetensors", "get the original model folder");
}

/* ---- rows 42 to 45: the folder ---- */

static void row_42_a_cache_of_links_into_blobs_is_accepted(void **state)
{
    (void)state;
    struct checkpoint ck;
    struct tp_error err = {0};
    assert_int_equal(mkdir(at("blobs"), 0700), 0);
    assert_int_equal(mkdir(at("snapshots"), 0700), 0);
    assert_int_equal(mkdir(at("snapshots/0123"), 0700), 0);
    put_letters("blobs/aa11", "a");
    put_letters("blobs/bb22", "b");
    PUT_INDEX("", "a m-1.safetensors", "b m-2.safetensors");
    assert_int_equal(rename(at(INDEX), at("blobs/cc33")), 0);
    assert_int_equal(symlink("../../blobs/aa11", at("snapshots/0123/m-1.safetensors")), 0);
    assert_int_equal(symlink("../../blobs/bb22", at("snapshots/0123/m-2.safetensors")), 0);
    assert_int_equal(symlink("../../blobs/cc33", at("snapshots/0123/" INDEX)), 0);
    if (!checkpoint_open(&ck, at("snapshots/0123"), &findings, &err))
        fail_msg("%s", err.text);
    /* held by descriptor: the data stays what it was, though the name is gone */
    unlink(at("snapshots/0123/m-2.safetensors"));
    assert_int_equal(value_of(&ck, checkpoint_use(&ck, "b", &err)), 0);
    assert_false(checkpoint_unchanged(&ck, &err));
    check_error(&err, TP_E_IO, TP_EXIT_IO,
                (const char *const[]){"m-2.safetensors: open: No such file", NULL});
    checkpoint_close(&ck);
}

static void row_43_links_that_loop_or_are_swapped_are_errors(void **state)
{
    (void)state;
    struct checkpoint ck;
    struct tp_error err = {0};
    assert_int_equal(symlink("model.safetensors", at("model.safetensors")), 0);
    REFUSE_FOLDER(TP_E_IO, TP_EXIT_IO, "model.safetensors: Too many levels of symbolic links");
    unlink(at("model.safetensors"));
    assert_int_equal(symlink("gone", at("model.safetensors")), 0);
    REFUSE_FOLDER(TP_E_IX_LINK, TP_EXIT_INPUT, "model.safetensors: is a link that leads nowhere");
    unlink(at("model.safetensors"));

    put_letters("one", "a");
    put_letters("two", "a");
    assert_int_equal(symlink("one", at("model.safetensors")), 0);
    must_open_folder(&ck);
    unlink(at("model.safetensors"));
    assert_int_equal(symlink("two", at("model.safetensors")), 0);
    assert_false(checkpoint_unchanged(&ck, &err));
    check_error(&err, TP_E_CHANGED, TP_EXIT_INTEGRITY,
                (const char *const[]){"model.safetensors: changed while reading", NULL});
    checkpoint_close(&ck);
}

static void row_44_pickle_is_never_opened(void **state)
{
    (void)state;
    static const char *const names[] = {"pytorch_model.bin", "model.pt", "last.ckpt",
                                        "consolidated.pth"};
    REFUSE_FOLDER(TP_E_IO, TP_EXIT_IO, fixture_dir, "no model.safetensors");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(mkfifo(at(names[i]), 0600), 0); /* opened, it would be no regular file */
        REFUSE_FOLDER(TP_E_IX_PICKLE, TP_EXIT_UNSUPPORTED, fixture_dir, names[i],
                      "pickle is never opened");
        unlink(at(names[i]));
    }
}

static void row_45_names_that_a_file_system_may_take_for_one_are_refused(void **state)
{
    (void)state;
    put_letters("m-a.safetensors", "a");
    put_letters("M-A.safetensors", "b");
    put_letters("m-b.safetensors", "c");
    PUT_INDEX("", "a m-a.safetensors", "b M-A.safetensors", "c m-b.safetensors");
    REFUSE_FOLDER(TP_E_IX_CASE, TP_EXIT_INPUT, INDEX ": weight_map: ", "\"M-A.safetensors\"",
                  "\"m-a.safetensors\"");
    PUT_INDEX("", "a \xc3\xa9.safetensors", "b e\xcc\x81.safetensors");
    REFUSE_FOLDER(TP_E_IX_CASE, TP_EXIT_INPUT, INDEX ": weight_map: ", "Unicode normalisation");
}

static void a_folder_that_is_none_is_an_io_error(void **state)
{
    (void)state;
    put_text("file", "x");
    expect_refusal(open_folder, at("none"), TP_E_IO, TP_EXIT_IO,
                   (const char *const[]){"none: ", "No such file", NULL});
    expect_refusal(open_folder, at("file"), TP_E_IO, TP_EXIT_IO,
                   (const char *const[]){"file: ", "Not a directory", NULL});
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_single_file_is_a_model),
        TEST(an_index_makes_many_files_one_model),
        TEST(warnings_of_files_are_the_models),
        TEST(checkpoints_of_the_collection_open),
        TEST(row_34_a_needed_tensor_is_there_once),
        TEST(a_name_that_ends_alike_is_found),
        TEST(row_36_a_file_outside_the_folder_is_never_opened),
        TEST(row_37_all_missing_files_are_listed_in_one_line),
        TEST(row_37_a_missing_file_that_nothing_needs_is_a_warning),
        TEST(row_38_a_tensor_sent_to_the_wrong_file_is_refused),
        TEST(row_39_a_tensor_not_in_the_index_is_a_warning),
        TEST(row_40_an_index_that_contradicts_itself_is_refused),
        TEST(row_40_a_wrong_total_size_is_no_more_than_a_note),
        TEST(an_index_cut_at_any_byte_is_refused),
        TEST(an_index_takes_memory_by_its_size),
        TEST(more_tensors_than_allowed_in_all_files_are_refused),
        TEST(row_41_the_whole_file_comes_before_an_index),
        TEST(row_41_several_files_without_an_index_are_ambiguous),
        TEST(row_42_a_cache_of_links_into_blobs_is_accepted),
        TEST(row_43_links_that_loop_or_are_swapped_are_errors),
        TEST(row_44_pickle_is_never_opened),
        TEST(row_45_names_that_a_file_system_may_take_for_one_are_refused),
        TEST(a_folder_that_is_none_is_an_io_error),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
