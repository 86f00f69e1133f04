#include "chat_source.h"

#include "chat_folder.h"
#include "file_kind.h"
#include "io.h"
#include "jinja.h"
#include "json.h"
#include "utf8.h"
#include <stdio.h>
#include <string.h>

static const char config_name[] = "tokenizer_config.json";

struct reader {
    struct chat_source *out;
    const char *dir;
    struct findings *findings;
    bool any;       /* a template was found, whatever became of it */
    json_t *config; /* tokenizer_config.json, NULL where there is none */
};

/* ---- texts ---- */

static bool add_text(struct reader *in, enum tokenizer_text_kind kind, const char *name,
                     const char *value, size_t n, struct tp_error *err)
{
    struct chat_source *out = in->out;
    char *own_name = mem_arena_copy(&out->arena, name, strlen(name), err);
    char *own_value = mem_arena_copy(&out->arena, value, n, err);
    if (!own_name || !own_value)
        return false;
    uint32_t i = 0; /* of two with one name the later counts */
    while (i < out->count && ((out->list[i].kind == TEXT_VARIABLE) != (kind == TEXT_VARIABLE) ||
                              strcmp(out->list[i].name, name) != 0))
        i++;
    if (i == sizeof out->list / sizeof *out->list)
        return finding_warn(in->findings, TP_E_TK_INVALID, err,
                            "%s: more than %u chat templates and tokens: \"%s\" is left out",
                            in->dir, i, name);
    out->list[i] =
        (struct pack_text){kind, own_name, own_value, (uint32_t)strlen(name), (uint32_t)n};
    out->count += i == out->count;
    return true;
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

/* One rendering. *reason is what it needed and we have not, or the limit that it ran into; an error
 * that the template means to raise is its own affair. */
static bool try_render(const struct chat_source *source, const struct jinja_template *compiled,
                       const char *where, struct tp_error *reason, struct tp_error *err)
{
    const struct jinja_options options = {0};
    struct jinja_error why;
    struct jinja_text text = {0};
    json_t *data = trial_data(), *variables = trial_variables(source);
    bool ok = true;
    if (jinja_render(compiled, variables, data, &options, &text, &why))
        jinja_text_free(&text);
    else if (why.failure == JINJA_MEMORY)
        ok = jinja_fail(&why, where, err);
    else if (why.failure == JINJA_SYNTAX || is_limit(&why))
        jinja_fail(&why, where, reason);
    else
        jinja_error_free(&why);
    json_decref(data);
    json_decref(variables);
    return ok;
}

static bool refuse(struct reader *in, const char *name, const char *why, struct tp_error *err)
{
    return finding_warn(in->findings, TP_E_TEMPLATE, err, "%s: chat template \"%s\" is left out",
                        why, name) &&
           add_text(in, TEXT_REFUSED, name, why, strlen(why), err);
}

static bool refuse_unread(struct reader *in, const char *where, const char *name,
                          struct tp_error *err)
{
    struct tp_error why = {0};
    tp_fail(&why, TP_E_TEMPLATE, "%s: 1 to %u bytes of UTF-8 expected", where, JINJA_SOURCE_MAX);
    return refuse(in, name, why.text, err);
}

/* where: file and field, for messages */
static bool add_template(struct reader *in, const char *where, const char *name, const char *text,
                         size_t n, struct tp_error *err)
{
    struct jinja_error why;
    struct tp_error reason = {0};
    char cut[TP_NAME_BUF];
    in->any = true;
    if (strlen(name) == 0 || strlen(name) > CHAT_NAME_BYTES_MAX)
        return finding_warn(in->findings, TP_E_TK_INVALID, err,
                            "%s: template name \"%s\": 1 to %d bytes expected: it is left out",
                            where, tp_name_cut(cut, name, strlen(name)), CHAT_NAME_BYTES_MAX);
    if (n == 0 || n > JINJA_SOURCE_MAX || !utf8_is_valid(text, n))
        return refuse_unread(in, where, name, err);
    size_t mark = n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    if (!file_kind_check(where, text + mark, n - mark, "a template", TP_E_TEMPLATE, &reason))
        return refuse(in, name, reason.text, err);
    if (mark &&
        !finding_warn(in->findings, TP_E_TEMPLATE, err,
                      "%s: begins with a byte order mark, which is part of every prompt", where))
        return false;
    struct jinja_template *compiled = jinja_compile(text, n, &why);
    if (!compiled && why.failure == JINJA_MEMORY)
        return jinja_fail(&why, where, err);
    if (!compiled)
        jinja_fail(&why, where, &reason);
    bool ok = !compiled || try_render(in->out, compiled, where, &reason, err);
    ok = ok && (reason.code ? refuse(in, name, reason.text, err)
                            : add_text(in, TEXT_TEMPLATE, name, text, n, err));
    jinja_template_free(compiled);
    return ok;
}

/* ---- variables ---- */

const char *const chat_tokens[CHAT_TOKENS] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                              "pad_token", "cls_token", "mask_token"};

/* What a tokenizer class of transformers takes where its configuration does not have the key, in
 * the order of chat_tokens. */
static const struct {
    const char *name;
    const char *tokens[CHAT_TOKENS];
} classes[] = {
    {"LlamaTokenizer", {"<s>", "</s>", "<unk>"}},
    {"CodeLlamaTokenizer", {"<s>", "</s>", "<unk>"}},
    {"GPT2Tokenizer", {"<|endoftext|>", "<|endoftext|>", "<|endoftext|>"}},
    {"Qwen2Tokenizer", {NULL, "<|endoftext|>", "<|endoftext|>", NULL, "<|endoftext|>"}},
    {"GemmaTokenizer", {"<bos>", "<eos>", "<unk>", NULL, "<pad>", NULL, "<mask>"}},
};

static const char *class_token(const json_t *config, size_t token)
{
    const char *name = json_string_value(json_object_get(config, "tokenizer_class"));
    size_t n = name ? strlen(name) : 0;
    if (n > 4 && strcmp(name + n - 4, "Fast") == 0)
        n -= 4;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strlen(classes[i].name) == n && memcmp(classes[i].name, name, n) == 0)
            return classes[i].tokens[token];
    return NULL;
}

const json_t *chat_token_text(const json_t *token)
{
    if (json_is_object(token))
        token = json_object_get(token, "content");
    return json_is_string(token) ? token : NULL;
}

static bool add_token(struct reader *in, const char *name, const json_t *token,
                      struct tp_error *err)
{
    const json_t *text = chat_token_text(token);
    if (!text || strlen(name) > CHAT_NAME_BYTES_MAX)
        return true;
    return add_text(in, TEXT_VARIABLE, name, json_string_value(text), json_string_length(text),
                    err);
}

static bool is_chat_token(const char *name)
{
    for (size_t i = 0; i < CHAT_TOKENS; i++)
        if (strcmp(chat_tokens[i], name) == 0)
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
        if (ok && n > 6 && strcmp(key + n - 6, "_token") == 0 && !is_chat_token(key))
            ok = add_token(in, key, value, err);
    }
    json_object_foreach(json_object_get(in->config, "extra_special_tokens"), key, value)
    {
        const char *name = key;
        ok = ok && add_token(in, name, value, err);
    }
    return ok;
}

static bool is_said(const struct findings *findings, const struct tp_error *why)
{
    return findings->files_said && why->code == TP_E_NOT_REGULAR;
}

bool chat_config_read(const char *dir, const char *name, struct findings *findings, json_t **out,
                      struct tp_error *err)
{
    struct tp_error why = {0};
    char path[IO_PATH_MAX];
    *out = NULL;
    if (!io_join(path, dir, name, err))
        return false;
    if (!io_exists(path))
        return true;
    *out = json_read_wide(path, CHAT_CONFIG_MAX, TP_E_TK_INVALID, &why);
    if (why.code == TP_E_LIMIT)
        why.code = TP_E_TK_INVALID;
    if (*out || (findings ? is_said(findings, &why) : tp_code_exit(why.code) == TP_EXIT_INPUT))
        return true;
    if (findings)
        return finding_forgive(findings, &why, "the file is ignored", err);
    *err = why;
    return false;
}

static bool add_variables(struct reader *in, struct tp_error *err)
{
    json_t *map = NULL;
    if (!json_find(in->config, "added_tokens_decoder") &&
        !chat_config_read(in->dir, "special_tokens_map.json", in->findings, &map, err))
        return false;
    bool ok = true;
    for (size_t i = 0; ok && i < CHAT_TOKENS; i++) {
        const char *name = chat_tokens[i], *own;
        const json_t *value = json_object_get(map, name);
        if (!value)
            value = json_object_get(in->config, name);
        if (value)
            ok = add_token(in, name, value, err);
        else if ((own = class_token(in->config, i)))
            ok = add_text(in, TEXT_VARIABLE, name, own, strlen(own), err);
    }
    json_decref(map);
    return ok && (!in->config || add_own_tokens(in, err));
}

/* ---- templates ---- */

/* chat_template.jinja, if it is there. */
static bool read_template_file(struct reader *in, struct tp_error *err)
{
    static const char name[] = "default", file[] = "chat_template.jinja";
    struct tp_error why = {0};
    char path[IO_PATH_MAX], *text;
    size_t n;
    if (!io_join(path, in->dir, file, err))
        return false;
    if (!io_exists(path))
        return true;
    if (io_read_file(path, JINJA_SOURCE_MAX, &text, &n, &why)) {
        bool ok = add_template(in, file, name, text, n, err);
        mem_free(text);
        return ok;
    }
    if (why.code != TP_E_LIMIT)
        return is_said(in->findings, &why) ||
               finding_forgive(in->findings, &why, "it is left out", err);
    in->any = true;
    return refuse_unread(in, file, name, err);
}

static bool read_template_folder(struct reader *in, struct tp_error *err)
{
    const char *key;
    json_t *text;
    char where[sizeof TEMPLATES_FOLDER + CHAT_NAME_BYTES_MAX + sizeof CHAT_FOLDER_SUFFIX];
    if (!chat_folder_read(in->dir, in->findings, &in->out->folder, err))
        return false;
    json_object_foreach(in->out->folder, key, text)
    {
        const char *name = key;
        snprintf(where, sizeof where, "%s/%s%s", TEMPLATES_FOLDER, name, CHAT_FOLDER_SUFFIX);
        if (json_is_string(text)) {
            if (!add_template(in, where, name, json_string_value(text), json_string_length(text),
                              err))
                return false;
            continue;
        }
        in->any = true;
        if (!refuse_unread(in, where, name, err))
            return false;
    }
    return true;
}

static bool add_json_template(struct reader *in, const char *file, const char *name,
                              const json_t *text, struct tp_error *err)
{
    char where[64];
    snprintf(where, sizeof where, "%s: chat_template", file);
    if (!json_is_string(text))
        return finding_warn(
            in->findings, TP_E_TK_INVALID, err,
            "%s: a text, or a list of {name, template} expected, %s found: it is left out", where,
            json_type_name(text));
    return add_template(in, where, name, json_string_value(text), json_string_length(text), err);
}

/* [{"name": ..., "template": ...}] */
static bool read_list(struct reader *in, const char *file, const json_t *list, struct tp_error *err)
{
    uint32_t bad = 0;
    if (json_array_size(list) > CHAT_TEMPLATES_MAX)
        return finding_warn(in->findings, TP_E_TK_INVALID, err,
                            "%s: %zu chat templates, at most %d allowed: they are left out", file,
                            json_array_size(list), CHAT_TEMPLATES_MAX);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i), *text = json_object_get(item, "template");
        const char *name = json_string_value(json_object_get(item, "name"));
        if (!name || !json_is_string(text))
            bad++;
        else if (!add_json_template(in, file, name, text, err))
            return false;
    }
    return !bad || finding_warn(in->findings, TP_E_TK_INVALID, err,
                                "%s: chat_template: %u of %zu entries without a name and a "
                                "template, both texts: left out",
                                file, bad, json_array_size(list));
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
    return read_list(in, file, value, err);
}

static bool add_templates(struct reader *in, struct tp_error *err)
{
    static const char legacy[] = "chat_template.json";
    if (!read_template_file(in, err) || !read_template_folder(in, err))
        return false;
    if (!in->any &&
        !read_json_templates(in, config_name, json_find(in->config, "chat_template"), err))
        return false;
    if (in->any)
        return true;
    json_t *file;
    if (!chat_config_read(in->dir, legacy, in->findings, &file, err))
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
    bool ok = chat_config_read(dir, config_name, findings, &in.config, err) &&
              add_variables(&in, err) && add_templates(&in, err);
    json_decref(in.config);
    if (!ok)
        chat_source_free(source);
    return ok;
}

void chat_source_free(struct chat_source *source)
{
    json_decref(source->folder);
    mem_arena_free(&source->arena);
    *source = (struct chat_source){0};
}
