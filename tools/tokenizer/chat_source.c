#include "chat_source.h"

#include "commands.h"
#include "folder.h"
#include "jinja.h"
#include "json.h"
#include "utf8.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_MAX = 16 << 20 };
static const char config_name[] = "tokenizer_config.json";
static const char suffix[] = ".jinja";

struct reader {
    struct chat_source *out;
    const char *dir;
    struct findings *findings;
    bool any;       /* a template was found, whatever became of it */
    json_t *config; /* tokenizer_config.json, NULL where there is none */
};

/* ---- texts ---- */

static bool add_text(struct chat_source *out, enum tokenizer_text_kind kind, const char *name,
                     const char *value, size_t n, struct tp_error *err)
{
    char *own_name = mem_arena_copy(&out->arena, name, strlen(name), err);
    char *own_value = mem_arena_copy(&out->arena, value, n, err);
    if (!own_name || !own_value)
        return false;
    uint32_t i = 0; /* of two with one name the later counts */
    while (i < out->count && ((out->list[i].kind == TEXT_VARIABLE) != (kind == TEXT_VARIABLE) ||
                              strcmp(out->list[i].name, name) != 0))
        i++;
    if (i == sizeof out->list / sizeof *out->list)
        return tp_fail(err, TP_E_LIMIT, "more than %u chat templates and variables", i);
    out->list[i] =
        (struct pack_text){kind, own_name, own_value, (uint32_t)strlen(name), (uint32_t)n};
    out->count += i == out->count;
    return true;
}

static bool is_utf8(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t at = 0, k = 1;
    while (at < n && (k = utf8_length(s + at, n - at)))
        at += k;
    return k != 0;
}

/* ---- trying a template ---- */

static json_t *trial_data(void)
{
    return json_pack("{s:[{s:s, s:s}], s:n, s:n, s:b}", "messages", "role", "user", "content",
                     "Hello", "tools", "documents", "add_generation_prompt", true);
}

static json_t *trial_variables(const struct chat_source *source)
{
    json_t *all = json_object();
    for (uint32_t i = 0; i < source->count; i++) {
        const struct pack_text *text = &source->list[i];
        if (text->kind == TEXT_VARIABLE)
            json_object_set_new(all, text->name, json_stringn(text->value, text->value_n));
    }
    return all;
}

/* Limits of ours, and the one that the reference has itself: of range(). */
static bool is_limit(const struct jinja_error *why)
{
    static const char overflow[] = "OverflowError";
    return why->failure == JINJA_LIMIT || (why->failure == JINJA_RUNTIME && why->text &&
                                           strncmp(why->text, overflow, sizeof overflow - 1) == 0);
}

/* One rendering within the limits. *unsupported is what it needed and we have not; an error that
 * the template means to raise is its own affair. */
static bool try_render(const struct chat_source *source, const struct jinja_template *compiled,
                       const char *where, struct tp_error *unsupported, struct tp_error *err)
{
    const struct jinja_options options = {0};
    struct jinja_error why;
    struct jinja_text text = {0};
    json_t *data = trial_data(), *variables = trial_variables(source);
    bool ok = jinja_render(compiled, variables, data, &options, &text, &why);
    if (ok) {
        jinja_text_free(&text);
    } else if (why.failure == JINJA_SYNTAX) {
        jinja_fail(&why, where, unsupported);
        ok = true;
    } else if (!is_limit(&why) && why.failure != JINJA_MEMORY) {
        jinja_error_free(&why);
        ok = true;
    } else {
        struct tp_error limit = {0};
        bool memory = why.failure == JINJA_MEMORY;
        jinja_fail(&why, where, &limit);
        tp_fail(err, memory ? TP_E_MEMORY : TP_E_TEMPLATE, "%s", limit.text);
    }
    json_decref(data);
    json_decref(variables);
    return ok;
}

static bool refuse(struct reader *in, const char *name, const char *why, struct tp_error *err)
{
    return finding_warn(in->findings, TP_E_TEMPLATE, err, "%s: chat template \"%s\" is left out",
                        why, name) &&
           add_text(in->out, TEXT_REFUSED, name, why, strlen(why), err);
}

/* where: file and field, for messages */
static bool add_template(struct reader *in, const char *where, const char *name, const char *text,
                         size_t n, struct tp_error *err)
{
    struct jinja_error why;
    struct tp_error syntax = {0};
    char cut[TP_NAME_BUF];
    in->any = true;
    if (n > JINJA_SOURCE_MAX)
        return tp_fail(err, TP_E_LIMIT, "%s: %zu bytes, at most %u allowed", where, n,
                       JINJA_SOURCE_MAX);
    if (strlen(name) == 0 || strlen(name) > CHAT_NAME_BYTES_MAX)
        return tp_fail(err, TP_E_LIMIT, "%s: template name \"%s\": 1 to %d bytes allowed", where,
                       tp_name_cut(cut, name, strlen(name)), CHAT_NAME_BYTES_MAX);
    if (!is_utf8(text, n)) {
        snprintf(syntax.text, sizeof syntax.text, "%s: UTF-8 expected", where);
        return refuse(in, name, syntax.text, err);
    }
    struct jinja_template *compiled = jinja_compile(text, n, &why);
    if (!compiled) {
        bool limit = why.failure == JINJA_LIMIT, memory = why.failure == JINJA_MEMORY;
        jinja_fail(&why, where, &syntax);
        if (limit || memory)
            return tp_fail(err, memory ? TP_E_MEMORY : TP_E_TEMPLATE, "%s", syntax.text);
        return refuse(in, name, syntax.text, err);
    }
    bool ok = try_render(in->out, compiled, where, &syntax, err) &&
              (syntax.code ? refuse(in, name, syntax.text, err)
                           : add_text(in->out, TEXT_TEMPLATE, name, text, n, err));
    jinja_template_free(compiled);
    return ok;
}

/* ---- variables ---- */

static const char *const attributes[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                         "pad_token", "cls_token", "mask_token"};
enum { ATTRIBUTES = sizeof attributes / sizeof *attributes };

/* What a tokenizer class of transformers takes where its configuration does not have the key, in
 * the order of `attributes`. */
static const struct {
    const char *name;
    const char *tokens[ATTRIBUTES];
} classes[] = {
    {"LlamaTokenizer", {"<s>", "</s>", "<unk>"}},
    {"CodeLlamaTokenizer", {"<s>", "</s>", "<unk>"}},
    {"GPT2Tokenizer", {"<|endoftext|>", "<|endoftext|>", "<|endoftext|>"}},
    {"Qwen2Tokenizer", {NULL, "<|endoftext|>", "<|endoftext|>", NULL, "<|endoftext|>"}},
    {"GemmaTokenizer", {"<bos>", "<eos>", "<unk>", NULL, "<pad>", NULL, "<mask>"}},
};

static const char *class_token(const json_t *config, size_t attribute)
{
    const char *name = json_string_value(json_object_get(config, "tokenizer_class"));
    size_t n = name ? strlen(name) : 0;
    if (n > 4 && strcmp(name + n - 4, "Fast") == 0)
        n -= 4;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strlen(classes[i].name) == n && memcmp(classes[i].name, name, n) == 0)
            return classes[i].tokens[attribute];
    return NULL;
}

/* A token as configuration files give it: a text, or an object that holds one. */
static const json_t *token_text(const json_t *token)
{
    if (json_is_object(token))
        token = json_object_get(token, "content");
    return json_is_string(token) ? token : NULL;
}

static bool add_token(struct chat_source *out, const char *name, const json_t *token,
                      struct tp_error *err)
{
    const json_t *text = token_text(token);
    if (!text || strlen(name) > CHAT_NAME_BYTES_MAX)
        return true;
    return add_text(out, TEXT_VARIABLE, name, json_string_value(text), json_string_length(text),
                    err);
}

static bool is_attribute(const char *name)
{
    for (size_t i = 0; i < ATTRIBUTES; i++)
        if (strcmp(attributes[i], name) == 0)
            return true;
    return false;
}

/* Tokens of the model's own: image_token ... and what extra_special_tokens names. */
static bool add_own_tokens(struct reader *in, struct tp_error *err)
{
    const char *key;
    json_t *value;
    bool ok = true;
    json_object_foreach(in->config, key, value)
    {
        size_t n = strlen(key);
        if (ok && n > 6 && strcmp(key + n - 6, "_token") == 0 && !is_attribute(key))
            ok = add_token(in->out, key, value, err);
    }
    json_object_foreach(json_object_get(in->config, "extra_special_tokens"), key, value)
    {
        const char *name = key;
        ok = ok && add_token(in->out, name, value, err);
    }
    return ok;
}

static bool read_json(const char *dir, const char *name, json_t **out, struct tp_error *err)
{
    char path[IO_PATH_MAX];
    *out = NULL;
    if (!io_join(path, dir, name, err))
        return false;
    if (!io_exists(path))
        return true;
    *out = json_read_wide(path, CONFIG_MAX, TP_E_TK_INVALID, err);
    return *out != NULL;
}

static bool add_variables(struct reader *in, struct tp_error *err)
{
    json_t *map = NULL;
    if (!json_find(in->config, "added_tokens_decoder") &&
        !read_json(in->dir, "special_tokens_map.json", &map, err))
        return false;
    bool ok = true;
    for (size_t i = 0; ok && i < ATTRIBUTES; i++) {
        const char *name = attributes[i], *own;
        const json_t *value = json_object_get(map, name);
        if (!value)
            value = json_object_get(in->config, name);
        if (value)
            ok = add_token(in->out, name, value, err);
        else if ((own = class_token(in->config, i)))
            ok = add_text(in->out, TEXT_VARIABLE, name, own, strlen(own), err);
    }
    json_decref(map);
    return ok && (!in->config || add_own_tokens(in, err));
}

/* ---- templates ---- */

/* A template in a file of its own, relative to the folder, if it is there. */
static bool read_template_file(struct reader *in, const char *file, const char *name,
                               struct tp_error *err)
{
    char path[IO_PATH_MAX], *text;
    size_t n;
    if (!io_join(path, in->dir, file, err))
        return false;
    if (!io_exists(path))
        return true;
    if (!io_read_file(path, JINJA_SOURCE_MAX, &text, &n, err))
        return false;
    bool ok = add_template(in, file, name, text, n, err);
    mem_free(text);
    return ok;
}

struct names {
    char *list[CHAT_TEMPLATES_MAX];
    uint32_t count;
    bool too_many;
    struct mem_arena arena;
    struct tp_error *err;
};

static void add_name(void *arg, const char *name)
{
    struct names *names = arg;
    size_t n = strlen(name), end = sizeof suffix - 1;
    if (n <= end || strcmp(name + n - end, suffix) != 0)
        return;
    names->too_many |= names->count == CHAT_TEMPLATES_MAX;
    if (!names->too_many)
        names->list[names->count] = mem_arena_copy(&names->arena, name, n - end, names->err);
    if (!names->too_many && names->list[names->count])
        names->count++;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool read_template_folder(struct reader *in, struct tp_error *err)
{
    char path[IO_PATH_MAX], file[512];
    struct names names = {.err = err};
    if (!io_join(path, in->dir, CHAT_TEMPLATES_FOLDER, err))
        return false;
    if (!io_is_dir(path))
        return true;
    bool ok = folder_list_path(path, add_name, &names, err) && err->code == TP_OK;
    if (ok && names.too_many)
        ok = tp_fail(err, TP_E_LIMIT, "%s: more than %d templates", path, CHAT_TEMPLATES_MAX);
    qsort(names.list, names.count, sizeof *names.list, compare_names);
    for (uint32_t i = 0; ok && i < names.count; i++) {
        snprintf(file, sizeof file, "%s/%s%s", CHAT_TEMPLATES_FOLDER, names.list[i], suffix);
        ok = read_template_file(in, file, names.list[i], err);
    }
    mem_arena_free(&names.arena);
    return ok;
}

static bool add_json_template(struct reader *in, const char *file, const char *name,
                              const json_t *text, struct tp_error *err)
{
    char where[64];
    snprintf(where, sizeof where, "%s: chat_template", file);
    if (!json_is_string(text) || !name)
        return tp_fail(err, TP_E_TK_INVALID,
                       "%s: a text, or a list of {name, template} expected, %s found", where,
                       json_type_name(text));
    return add_template(in, where, name, json_string_value(text), json_string_length(text), err);
}

/* chat_template of a JSON file: a text, a list, or an object of names. */
static bool read_json_templates(struct reader *in, const char *file, const json_t *value,
                                struct tp_error *err)
{
    const char *key;
    json_t *item;
    bool ok = true;
    if (!value)
        return true;
    if (json_is_object(value)) {
        json_object_foreach((json_t *)(uintptr_t)value, key, item)
        {
            const char *name = key;
            ok = ok && add_json_template(in, file, name, item, err);
        }
        return ok;
    }
    if (!json_is_array(value))
        return add_json_template(in, file, "default", value, err);
    if (json_array_size(value) > CHAT_TEMPLATES_MAX)
        return tp_fail(err, TP_E_LIMIT, "%s: %zu chat templates, at most %d allowed", file,
                       json_array_size(value), CHAT_TEMPLATES_MAX);
    for (size_t i = 0; ok && i < json_array_size(value); i++) {
        item = json_array_get(value, i);
        ok = add_json_template(in, file, json_string_value(json_object_get(item, "name")),
                               json_object_get(item, "template"), err);
    }
    return ok;
}

static bool add_templates(struct reader *in, struct tp_error *err)
{
    static const char legacy[] = "chat_template.json";
    if (!read_template_file(in, "chat_template.jinja", "default", err) ||
        !read_template_folder(in, err))
        return false;
    if (!in->any &&
        !read_json_templates(in, config_name, json_find(in->config, "chat_template"), err))
        return false;
    if (in->any)
        return true;
    json_t *file;
    if (!read_json(in->dir, legacy, &file, err))
        return false;
    bool ok = read_json_templates(in, legacy, json_find(file, "chat_template"), err);
    json_decref(file);
    return ok;
}

bool chat_source_read(struct chat_source *source, const char *dir, struct findings *findings,
                      struct tp_error *err)
{
    struct reader in = {.out = source, .dir = dir, .findings = findings};
    *source = (struct chat_source){0};
    bool ok = read_json(dir, config_name, &in.config, err) && add_variables(&in, err) &&
              add_templates(&in, err);
    json_decref(in.config);
    if (!ok)
        chat_source_free(source);
    return ok;
}

void chat_source_free(struct chat_source *source)
{
    mem_arena_free(&source->arena);
    *source = (struct chat_source){0};
}
