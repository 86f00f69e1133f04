/* Published tokenizers against what others expect of them, where that data is present: $SHARED, by
 * default ../shared. Without it every test says so and passes. */
#include "io.h"
#include "mem.h"
#include "tokenizer.h"
#include "tokenizer_compile.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const char *shared(const char *name)
{
    static char path[IO_PATH_MAX];
    const char *root = getenv("SHARED");
    snprintf(path, sizeof path, "%s/%s", root && *root ? root : "../shared", name);
    if (io_exists(path))
        return path;
    printf("SKIP: %s is not here\n", path);
    return NULL;
}

/* The whole file, NUL-terminated; the caller frees. NULL: not here. */
static char *shared_file(const char *name, size_t *n)
{
    const char *path = shared(name);
    char *data;
    if (!path)
        return NULL;
    assert_true(io_read_file(path, 64u << 20, &data, n, NULL));
    return data;
}

static json_t *shared_json(const char *name)
{
    size_t n;
    char *text = shared_file(name, &n);
    if (!text)
        return NULL;
    json_t *doc = json_loadb(text, n, JSON_ALLOW_NUL, NULL);
    assert_non_null(doc);
    mem_free(text);
    return doc;
}

struct opened {
    unsigned char *data;
    struct tokenizer tokenizer;
    struct token_ids ids;
};

/* folder under SHARED/; tokenizer.json, or .json.gz through gzip. false: not here. */
static bool open_one(struct opened *o, const char *folder)
{
    char name[256];
    uint64_t bytes;
    struct tp_error err = {0};
    *o = (struct opened){0};
    snprintf(name, sizeof name, "%s/tokenizer.json.gz", folder);
    const char *root = getenv("SHARED");
    char path[IO_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", root && *root ? root : "../shared", name);
    bool ok;
    if (io_exists(path)) {
        char command[IO_PATH_MAX + 16], *text = mem_alloc(32u << 20, NULL);
        snprintf(command, sizeof command, "gzip -dc '%s'", path);
        FILE *pipe = popen(command, "r");
        assert_non_null(pipe);
        size_t n = fread(text, 1, 32u << 20, pipe);
        assert_int_equal(pclose(pipe), 0);
        ok = tokenizer_compile("tokenizer.json", text, n, NULL, NULL, &o->data, &bytes, &err);
        mem_free(text);
    } else {
        const char *dir = shared(folder);
        if (!dir)
            return false;
        ok = tokenizer_compile_dir(dir, NULL, NULL, &(struct findings){.strict = true}, &o->data,
                                   &bytes, &err);
    }
    if (!ok || !tokenizer_open_bytes(o->data, bytes, folder, &o->tokenizer, &err))
        fail_msg("%s: %s", folder, err.text);
    return true;
}

static void close_one(struct opened *o)
{
    tokenizer_close(&o->tokenizer);
    token_ids_free(&o->ids);
    mem_free(o->data);
}

static void encode(struct opened *o, const char *text, size_t n, unsigned flags)
{
    struct tp_error err = {0};
    o->ids.count = 0;
    o->ids.dropped = 0;
    if (!tokenizer_encode(&o->tokenizer, text, n, NULL, flags, &o->ids, &err))
        fail_msg("%s", err.text);
}

static char *decode(const struct opened *o, size_t *n)
{
    size_t at = 0;
    for (size_t i = 0; i < o->ids.count; i++)
        at += tokenizer_file_token(&o->tokenizer.file, o->ids.ids[i]).n;
    char *text = mem_alloc(at + 1, NULL);
    *n = at;
    at = 0;
    for (size_t i = 0; i < o->ids.count; i++) {
        struct tokenizer_bytes b = tokenizer_file_token(&o->tokenizer.file, o->ids.ids[i]);
        memcpy(text + at, b.data, b.n);
        at += b.n;
    }
    return text;
}

/* The ids of text are those of a line of numbers. */
static void assert_line(struct opened *o, const char *text, size_t n, const char *line)
{
    encode(o, text, n, 0);
    size_t i = 0;
    for (char *end; line += strspn(line, ", \n"), *line; line = end, i++) {
        unsigned long id = strtoul(line, &end, 10);
        assert_true(end != line);
        if (i >= o->ids.count || o->ids.ids[i] != id)
            fail_msg("id %zu of \"%.80s\": %lu expected", i, text, id);
    }
    assert_int_equal(i, o->ids.count);
}

/* ids, less a beginning of skip entries, are those of text. */
static void assert_json(struct opened *o, const char *text, size_t n, const json_t *ids,
                        size_t skip)
{
    encode(o, text, n, 0);
    assert_int_equal(json_array_size(ids), o->ids.count + skip);
    for (size_t i = 0; i < o->ids.count; i++)
        if (json_integer_value(json_array_get(ids, i + skip)) != o->ids.ids[i])
            fail_msg("id %zu of \"%.80s\" is %u", i, text, o->ids.ids[i]);
}

/* ---- kitoken ---- */

/* In lines: \n newline, \s space, \x nothing. */
static size_t unescape(char *line)
{
    char *out = line;
    for (const char *in = line; *in; in++) {
        if (*in == '\\' && in[1] && strchr("nsx", in[1])) {
            in++;
            if (*in != 'x')
                *out++ = *in == 'n' ? '\n' : ' ';
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
    return (size_t)(out - line);
}

static void check_kitoken(const char *folder, const char *name)
{
    struct opened o;
    static const char base[] = "data/tokenizer-expectations/kitoken";
    char file[256];
    size_t n, lines = 0;
    if (!open_one(&o, folder))
        return;
    for (int set = 0; set < 2; set++) {
        snprintf(file, sizeof file, "%s/%s_input.txt", base, set ? "mixed" : "small");
        char *input = shared_file(file, &n);
        snprintf(file, sizeof file, "%s/%s_tokens_%s.txt", base, set ? "mixed" : "small", name);
        char *tokens = shared_file(file, &n);
        char *text = input, *ids = tokens;
        while (text && *text && ids && *ids) {
            char *text_end = strchrnul(text, '\n'), *ids_end = strchrnul(ids, '\n');
            bool last = !*text_end;
            *text_end = *ids_end = '\0';
            assert_line(&o, text, unescape(text), ids);
            lines++;
            text = last ? NULL : text_end + 1;
            ids = ids_end + 1;
        }
        mem_free(input);
        mem_free(tokens);
    }
    snprintf(file, sizeof file, "%s/utf8_tokens_%s.txt", base, name);
    char *ids = shared_file(file, &n);
    snprintf(file, sizeof file, "%s/utf8_input.txt", base);
    char *text = shared_file(file, &n);
    if (text && ids) {
        assert_line(&o, text, n, ids);
        size_t back_n;
        char *back = decode(&o, &back_n);
        assert_int_equal(back_n, n);
        assert_memory_equal(back, text, n);
        mem_free(back);
        assert_int_equal(lines, 140);
    }
    mem_free(text);
    mem_free(ids);
    close_one(&o);
}

static void kitoken_expects_the_same(void **state)
{
    (void)state;
    check_kitoken("data/tokenizers/gpt2", "gpt2");
    check_kitoken("data/tokenizers/llama-3.2", "llama32");
}

/* ---- llama.cpp ---- */

static void check_llama_cpp(const char *folder, const char *name)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    struct opened o;
    char file[256];
    size_t n, count = 0;
    if (!open_one(&o, folder))
        return;
    snprintf(file, sizeof file, "data/llama.cpp-vocab/ggml-vocab-%s.gguf.inp", name);
    char *input = shared_file(file, &n);
    snprintf(file, sizeof file, "data/llama.cpp-vocab/ggml-vocab-%s.gguf.out", name);
    char *output = shared_file(file, &n), *ids = output;
    for (char *text = input; text && ids && *ids; count++) {
        char *end = strstr(text, mark), *ids_end = strchrnul(ids, '\n');
        *ids_end = '\0';
        assert_line(&o, text, end ? (size_t)(end - text) : strlen(text), ids);
        text = end ? end + strlen(mark) : NULL;
        ids = ids_end + 1;
    }
    if (input && output)
        assert_int_equal(count, 46);
    mem_free(input);
    mem_free(output);
    close_one(&o);
}

static void llama_cpp_expects_the_same(void **state)
{
    (void)state;
    check_llama_cpp("data/tokenizers/gpt2", "gpt-2");
    check_llama_cpp("data/tokenizers/llama-3.2", "llama-bpe");
    check_llama_cpp("data/tokenizers/deepseek-coder", "deepseek-coder");
}

/* ---- transformers.js, swift-transformers ---- */

static void check_transformers_js(const char *folder, const char *class, const char *model,
                                  size_t skip, size_t wanted)
{
    struct opened o;
    json_t *doc = shared_json("data/tokenizer-expectations/transformers.js/cases.json"), *test;
    if (!doc || !open_one(&o, folder)) {
        json_decref(doc);
        return;
    }
    const char *name;
    size_t count = 0;
    json_t *tests = json_object_get(json_object_get(json_object_get(doc, class), "tests"), model);
    json_object_foreach(tests, name, test)
    {
        const json_t *text = json_object_get(test, "text");
        assert_json(&o, json_string_value(text), json_string_length(text),
                    json_object_get(test, "ids"), skip);
        size_t n;
        char *back = decode(&o, &n);
        assert_int_equal(n, json_string_length(text));
        assert_memory_equal(back, json_string_value(text), n);
        mem_free(back);
        count++;
    }
    assert_int_equal(count, wanted);
    json_decref(doc);
    close_one(&o);
}

static void transformers_js_expects_the_same(void **state)
{
    (void)state;
    check_transformers_js("data/tokenizers/gpt2", "gpt2", "Xenova/gpt2", 0, 26);
    check_transformers_js("data/tokenizers/gpt2", "gpt2", "openai-community/gpt2", 0, 26);
    check_transformers_js("data/tokenizers/llama-3.2", "llama", "Xenova/llama3-tokenizer", 0, 37);
    check_transformers_js("data/tokenizers/llama-3-8b-instruct", "llama",
                          "Xenova/llama3-tokenizer-new", 1, 37);
    check_transformers_js("data/tokenizers/deepseek-coder", "llama",
                          "Xenova/deepseek-coder-1.3b-instruct", 1, 37);
}

static void swift_transformers_expects_the_same(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"data/tokenizers/gpt2", "gpt2_encoded_tokens.json"},
        {"data/tokenizers/llama-3.2", "llama_3.2_encoded.json"},
    };
    for (size_t i = 0; i < 2; i++) {
        struct opened o;
        char file[256];
        snprintf(file, sizeof file, "data/tokenizer-expectations/swift-transformers/%s",
                 cases[i][1]);
        json_t *doc = shared_json(file);
        if (doc && open_one(&o, cases[i][0])) {
            const json_t *text = json_object_get(doc, "text");
            assert_json(&o, json_string_value(text), json_string_length(text),
                        json_object_get(doc, "token_ids"), i == 1);
            close_one(&o);
        }
        json_decref(doc);
    }
}

/* ---- goldens of models ---- */

static void prompts_of_the_goldens_have_their_ids(void **state)
{
    (void)state;
    static const char *const goldens[][2] = {
        {"checkpoints/smollm2-golden.json", "data/tokenizers/smollm2-135m-instruct"},
        {"demo-model/golden.json", "demo-model/stories"},
    };
    for (size_t g = 0; g < 2; g++) {
        struct opened o;
        json_t *doc = shared_json(goldens[g][0]);
        if (!doc || !open_one(&o, goldens[g][1])) {
            json_decref(doc);
            continue;
        }
        json_t *cases = json_object_get(doc, "cases"), *entry;
        size_t i;
        json_array_foreach(cases, i, entry)
        {
            const json_t *prompt = json_object_get(entry, "prompt");
            assert_json(&o, json_string_value(prompt), json_string_length(prompt),
                        json_object_get(entry, "prompt_ids"), 0);
            const json_t *ids = json_object_get(entry, g ? "ids" : "greedy_ids");
            const json_t *text = json_object_get(entry, g ? "text" : "greedy_text");
            o.ids.count = 0;
            for (size_t k = 0; k < json_array_size(ids); k++)
                token_ids_push(&o.ids, (uint32_t)json_integer_value(json_array_get(ids, k)), NULL);
            size_t n;
            char *back = decode(&o, &n);
            assert_string_equal(back, json_string_value(text));
            mem_free(back);
        }
        json_decref(doc);
        close_one(&o);
    }
}

/* ---- whole texts ---- */

/* Of this process: other load does not count. */
static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void texts_come_back_from_their_ids(void **state)
{
    (void)state;
    static const char *const texts[] = {"gsm8k_test.jsonl", "tinyshakespeare.txt",
                                        "tinystories_b.txt", "wikitext2_test_raw_joined.txt",
                                        "wizard_of_oz.txt"};
    static const char *const folders[] = {"checkpoints/tokenizer", "data/tokenizers/gpt2",
                                          "data/tokenizers/llama-3.2",
                                          "data/tokenizers/smollm2-135m-instruct"};
    for (size_t f = 0; f < sizeof folders / sizeof *folders; f++) {
        struct opened o;
        if (!open_one(&o, folders[f]))
            return;
        for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) {
            char file[128];
            size_t n, back_n;
            snprintf(file, sizeof file, "data/text/%s", texts[t]);
            char *text = shared_file(file, &n);
            if (!text)
                continue;
            double begin = seconds();
            encode(&o, text, n, 0);
            double took = seconds() - begin;
            char *back = decode(&o, &back_n);
            assert_int_equal(back_n, n);
            assert_memory_equal(back, text, n);
            printf("%s, %s: %zu ids, %.1f MB/s\n", folders[f], texts[t], o.ids.count,
                   (double)n / 1e6 / took);
            mem_free(back);
            mem_free(text);
        }
        close_one(&o);
    }
}

/* Row 70 of the fault catalogue, with a real vocabulary: a second a megabyte. */
static void a_megabyte_of_one_kind_is_soon_done(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    static const char *const units[] = {"a", " ", "the", "=", "\xe4\xb8\x80", "0", "\n", "'s"};
    static const char *const folders[] = {"data/tokenizers/llama-3.2", "data/tokenizers/gpt2",
                                          "data/tokenizers/deepseek-coder"};
    char *text = mem_alloc(N, NULL);
    for (size_t f = 0; f < 3; f++) {
        struct opened o;
        if (!open_one(&o, folders[f]))
            break;
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            for (size_t i = 0; i < N; i++)
                text[i] = units[u][i % strlen(units[u])];
            double begin = seconds();
            encode(&o, text, N, 0);
            double took = seconds() - begin;
            printf("%s, 1 MiB of \"%s\": %zu ids, %.3f s\n", folders[f], units[u], o.ids.count,
                   took);
            assert_true(took < 10); /* under sanitizers, too */
        }
        close_one(&o);
    }
    mem_free(text);
}

static void a_vocabulary_of_128_k_opens_at_once(void **state)
{
    (void)state;
    struct opened o;
    if (!open_one(&o, "data/tokenizers/llama-3.2"))
        return;
    struct tokenizer t = {0};
    double begin = seconds();
    uint64_t n = le_u64(o.data + 16);
    assert_true(tokenizer_open_bytes(o.data, n, "llama-3.2", &t, NULL));
    printf("%u tokens, %llu bytes: %.2f ms\n", t.file.tokens, (unsigned long long)n,
           1e3 * (seconds() - begin));
    assert_int_equal(t.file.tokens, 128256);
    assert_int_equal(t.file.post_count, 1);
    tokenizer_close(&t);
    close_one(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kitoken_expects_the_same),
        cmocka_unit_test(llama_cpp_expects_the_same),
        cmocka_unit_test(transformers_js_expects_the_same),
        cmocka_unit_test(swift_transformers_expects_the_same),
        cmocka_unit_test(prompts_of_the_goldens_have_their_ids),
        cmocka_unit_test(texts_come_back_from_their_ids),
        cmocka_unit_test(a_megabyte_of_one_kind_is_soon_done),
        cmocka_unit_test(a_vocabulary_of_128_k_opens_at_once),
    };
    return cmocka_run_group_tests_name("tokenizer_shared", tests, NULL, NULL);
}
