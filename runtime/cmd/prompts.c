#include "prompts.h"

#include "checked.h"
#include "json.h"
#include <stdio.h>
#include <string.h>

struct reader {
    struct prompts *prompts;
    const struct prompts_given *given;
    struct tokenizer *tokenizer;
    const struct chat *chat; /* NULL: texts are continued as they are */
    uint64_t vocab;
    struct token_ids ids; /* of the prompt being read */
};

void prompts_free(struct prompts *prompts)
{
    mem_arena_free(&prompts->arena);
    mem_free(prompts->list);
    *prompts = (struct prompts){0};
}

/* Take over in->ids as one more prompt. where names it in errors. */
static bool add(struct reader *in, const char *where, const char *id, uint64_t n,
                struct tp_error *err)
{
    struct prompts *p = in->prompts;
    if (in->ids.count == 0)
        return tp_fail(err, TP_E_PROMPT, "%s: the prompt has no tokens, at least 1 expected",
                       where);
    if (in->ids.count >= UINT32_MAX)
        return tp_fail(err, TP_E_PROMPT, "%s: %zu tokens, at most %u expected", where,
                       in->ids.count, UINT32_MAX - 1);
    for (size_t i = 0; i < in->ids.count; i++)
        if (in->ids.ids[i] >= in->vocab)
            return tp_fail(err, TP_E_PROMPT, "%s: token id %u, 0 to %llu expected", where,
                           in->ids.ids[i], (unsigned long long)in->vocab - 1);
    if (p->count == PROMPTS_COUNT_MAX)
        return tp_fail(err, TP_E_LIMIT, "%s: more than %d prompts", where, PROMPTS_COUNT_MAX);
    if (!mem_grow((void **)&p->list, &p->cap, p->count + 1, sizeof *p->list, err))
        return false;
    struct prompt *prompt = &p->list[p->count];
    size_t bytes = in->ids.count * sizeof *prompt->ids;
    prompt->id = mem_arena_copy(&p->arena, id, strlen(id), err);
    prompt->ids = mem_arena_alloc(&p->arena, bytes, err);
    if (!prompt->id || !prompt->ids)
        return false;
    memcpy(prompt->ids, in->ids.ids, bytes);
    prompt->n_ids = (uint32_t)in->ids.count;
    prompt->n = (uint32_t)n;
    prompt->n_cached = 0;
    p->total_ids += prompt->n_ids;
    p->count++;
    in->ids.count = 0;
    return true;
}

/* A text as what a user says. */
static bool encode_user(struct reader *in, const char *text, size_t n, struct tp_error *err)
{
    const char *system = in->given->system;
    json_t *messages = json_array();
    bool ok = (!system || chat_add(messages, "system", system, strlen(system), err)) &&
              chat_add(messages, "user", text, n, err) &&
              chat_encode(in->chat, messages, NULL, &in->ids, err);
    json_decref(messages);
    return ok;
}

static bool encode(struct reader *in, const char *where, const char *text, size_t n,
                   struct tp_error *err)
{
    if (!in->tokenizer)
        return tp_fail(err, TP_E_TK_UNSUPPORTED, "%s: the bundle has no tokenizer, give token ids",
                       where);
    if (in->chat)
        return encode_user(in, text, n, err);
    return tokenizer_encode(in->tokenizer, text, n, NULL, TOKENIZER_ADD_SPECIAL, &in->ids, err);
}

/* "1,2,3" */
static bool read_id_list(struct reader *in, const char *where, const char *text,
                         struct tp_error *err)
{
    for (;; text++) {
        char name[TP_NAME_BUF];
        size_t n = strcspn(text, ",");
        uint64_t id;
        if (!tp_parse_u64(text, n, &id) || id >= in->vocab)
            return tp_fail(err, TP_E_PROMPT, "%s: token id \"%s\", 0 to %llu expected", where,
                           tp_name_cut(name, text, n), (unsigned long long)in->vocab - 1);
        if (!token_ids_push(&in->ids, (uint32_t)id, err))
            return false;
        text += n;
        if (!*text)
            return true;
    }
}

static bool read_json_ids(struct reader *in, const char *where, const json_t *array,
                          struct tp_error *err)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *item = json_array_get(array, i);
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || (uint64_t)id >= in->vocab)
            return tp_fail(err, TP_E_PROMPT, "%s: prompt_ids: item %zu: 0 to %llu expected", where,
                           i, (unsigned long long)in->vocab - 1);
        if (!token_ids_push(&in->ids, (uint32_t)id, err))
            return false;
    }
    return true;
}

/* The line's id as JSON; where it has none, its number. */
static bool read_line_id(const char *where, const json_t *object, uint64_t line, char *id,
                         size_t size, struct tp_error *err)
{
    const json_t *value = json_find(object, "id");
    size_t n = (size_t)snprintf(id, size, "%llu", (unsigned long long)line);
    if (value) {
        if (!json_is_string(value) && !json_is_integer(value))
            return tp_fail(err, TP_E_PROMPT, "%s: id: a string or a number expected, %s found",
                           where, json_type_name(value));
        n = json_dumpb(value, id, size, JSON_ENCODE_ANY | JSON_COMPACT);
    }
    if (n == 0 || n >= size)
        return tp_fail(err, TP_E_PROMPT, "%s: id: longer than %zu bytes", where, size - 1);
    id[n] = '\0';
    return true;
}

/* {"messages", "tools"}: a conversation; --system goes before one without a system message. */
static bool encode_messages(struct reader *in, const json_t *object, const char *where,
                            struct tp_error *err)
{
    struct json_in fields = {object, where, TP_E_PROMPT};
    const json_t *messages, *tools = json_find(object, "tools");
    const char *system = in->given->system;
    if (!in->chat)
        return tp_fail(err, TP_E_PROMPT, "%s: messages: --chat is missing", where);
    if (!json_get_array(&fields, "messages", &messages, err) ||
        (tools && !json_get_array(&fields, "tools", &tools, err)))
        return false;
    const char *first = json_string_value(json_object_get(json_array_get(messages, 0), "role"));
    json_t *all = json_array();
    bool ok = !system || (first && strcmp(first, "system") == 0) ||
              chat_add(all, "system", system, strlen(system), err);
    json_array_extend(all, (json_t *)(uintptr_t)messages);
    struct tp_error why = {0};
    if (ok && !chat_encode(in->chat, all, tools, &in->ids, &why))
        ok = tp_fail(err, why.code, "%s: %s", where, why.text);
    json_decref(all);
    return ok;
}

/* The ids of a line's prompt, whichever of the three it gives. */
static bool read_line_prompt(struct reader *in, const char *where, const json_t *object,
                             struct tp_error *err)
{
    struct json_in fields = {object, where, TP_E_PROMPT};
    const json_t *ids = json_find(object, "prompt_ids"), *prompt = json_find(object, "prompt");
    const json_t *messages = json_find(object, "messages");
    const char *text;
    size_t n;
    if (!!ids + !!prompt + !!messages != 1)
        return tp_fail(err, TP_E_PROMPT,
                       "%s: one of prompt, prompt_ids and messages expected, %s found", where,
                       ids || prompt ? "more" : "none");
    if (messages)
        return encode_messages(in, object, where, err);
    if (ids)
        return json_get_array(&fields, "prompt_ids", &ids, err) &&
               read_json_ids(in, where, ids, err);
    return json_get_text(&fields, "prompt", &text, &n, err) && encode(in, where, text, n, err);
}

/* Keys that elsewhere change what a template gets, or which one it is: to pass over them would be
 * to answer something else. Other keys are the file's own affair. */
static bool check_keys(const char *where, const json_t *object, struct tp_error *err)
{
    static const char *const others[] = {
        "chat_template",         "chat_template_kwargs",   "documents",
        "add_generation_prompt", "continue_final_message", "tokenize",
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (json_object_get(object, others[i]))
            return tp_fail(err, TP_E_PROMPT, "%s: %s: not a key that a line may give", where,
                           others[i]);
    return true;
}

static bool read_line(struct reader *in, const char *where, uint64_t line, const char *text,
                      size_t n, struct tp_error *err)
{
    json_t *object = json_parse_line(where, text, n, true, TP_E_PROMPT, err);
    if (!object)
        return false;
    struct json_in fields = {object, where, TP_E_PROMPT};
    char id[1024];
    uint64_t tokens;
    bool ok =
        json_is_object(object) || tp_fail(err, TP_E_PROMPT, "%s: an object expected, %s found",
                                          where, json_type_name(object));
    ok = ok && check_keys(where, object, err) &&
         read_line_id(where, object, line, id, sizeof id, err) &&
         json_get_u64_or(&fields, "n", 0, UINT32_MAX, in->given->n, &tokens, err);
    ok = ok && read_line_prompt(in, where, object, err);
    ok = ok && add(in, where, id, tokens, err);
    json_decref(object);
    return ok;
}

static bool read_lines(struct reader *in, const char *path, const char *text, size_t n,
                       struct tp_error *err)
{
    const char *end = text + n;
    for (uint64_t line = 0; text < end; line++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t len = (size_t)((stop ? stop : end) - text);
        char where[IO_PATH_MAX + 32];
        snprintf(where, sizeof where, "%s: line %llu", path, (unsigned long long)line + 1);
        if (len > PROMPTS_LINE_MAX)
            return tp_fail(err, TP_E_LIMIT, "%s: %zu bytes, at most %d are allowed", where, len,
                           PROMPTS_LINE_MAX);
        if (strspn(text, " \t\r") < len && !read_line(in, where, line, text, len, err))
            return false;
        text += len + 1;
    }
    return in->prompts->count ||
           tp_fail(err, TP_E_PROMPT, "%s: no prompts, at least one line expected", path);
}

static bool read_file(struct reader *in, const char *path, bool lines, struct tp_error *err)
{
    const char *name = io_input_name(path);
    char *text;
    size_t n;
    if (!io_read_input(path, PROMPTS_FILE_MAX, &text, &n, err))
        return false;
    bool ok = lines ? read_lines(in, name, text, n, err)
                    : encode(in, name, text, n, err) && add(in, name, "0", in->given->n, err);
    mem_free(text);
    return ok;
}

bool prompts_read(struct prompts *prompts, const struct prompts_given *given,
                  struct tokenizer *tokenizer, const struct chat *chat, uint64_t vocab,
                  struct tp_error *err)
{
    struct reader in = {prompts, given, tokenizer, chat, vocab, {0}};
    *prompts = (struct prompts){0};
    bool ok;
    if (given->prompts_file)
        ok = read_file(&in, given->prompts_file, true, err);
    else if (given->text_file)
        ok = read_file(&in, given->text_file, false, err);
    else if (given->text)
        ok = encode(&in, "-p", given->text, strlen(given->text), err) &&
             add(&in, "-p", "0", given->n, err);
    else
        ok = read_id_list(&in, "--prompt-ids", given->prompt_ids, err) &&
             add(&in, "--prompt-ids", "0", given->n, err);
    token_ids_free(&in.ids);
    if (!ok)
        prompts_free(prompts);
    return ok;
}
