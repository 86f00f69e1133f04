#include "chat_template.h"

#include "json.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

static bool has(const struct tokenizer_file *file, enum tokenizer_text_kind kind, const char *name)
{
    struct tokenizer_bytes value;
    return tokenizer_file_find_text(file, kind, name, &value);
}

/* asked: the name was given. */
static const char *no_template(const struct tokenizer_file *file, const char *name, bool asked,
                               struct tp_error *err)
{
    struct tokenizer_bytes why;
    char names[256] = "";
    for (uint32_t i = 0; i < file->text_count; i++) {
        struct tokenizer_text text = tokenizer_file_text(file, i);
        size_t at = strlen(names);
        if (text.kind == TEXT_TEMPLATE)
            snprintf(names + at, sizeof names - at, "%s%.*s", at ? ", " : "", (int)text.name.n,
                     (const char *)text.name.data);
    }
    if (tokenizer_file_find_text(file, TEXT_REFUSED, name, &why))
        tp_fail(err, TP_E_UNSUPPORTED, "no chat template: %.*s", (int)(why.n < 400 ? why.n : 400),
                (const char *)why.data);
    else if (*names)
        tp_fail(err, asked ? TP_E_USAGE : TP_E_UNSUPPORTED,
                "no chat template \"%.128s\", --chat-template NAME takes one of these: %s", name,
                names);
    else
        tp_fail(err, TP_E_UNSUPPORTED, "no chat template: the model's folder had none");
    return NULL;
}

const char *chat_template_find(const struct tokenizer_file *file, const char *asked, bool tools,
                               struct tp_error *err)
{
    static const char with_tools[] = "tool_use";
    bool is_for_tools =
        tools && (has(file, TEXT_TEMPLATE, with_tools) || has(file, TEXT_REFUSED, with_tools));
    const char *name = asked ? asked : is_for_tools ? with_tools : "default";
    return has(file, TEXT_TEMPLATE, name) ? name : no_template(file, name, asked != NULL, err);
}

/* The variables of the compiled tokenizer as an object. */
static json_t *read_variables(const struct tokenizer_file *file, struct tp_error *err)
{
    json_t *all = json_object();
    for (uint32_t i = 0; i < file->text_count; i++) {
        struct tokenizer_text text = tokenizer_file_text(file, i);
        if (text.kind != TEXT_VARIABLE)
            continue;
        json_t *value = json_stringn((const char *)text.value.data, text.value.n);
        if (json_object_setn_new(all, (const char *)text.name.data, text.name.n, value) != 0) {
            tp_fail(err, TP_E_TK_INVALID, "compiled tokenizer: text %u: UTF-8 expected", i);
            json_decref(all);
            return NULL;
        }
    }
    return all;
}

bool chat_template_open(struct chat_template *chat, const struct tokenizer_file *file,
                        const char *name, struct tp_error *err)
{
    struct chat_template c = {.name = name};
    struct tokenizer_bytes source = {0};
    struct jinja_error why;
    tp_assert(tokenizer_file_find_text(file, TEXT_TEMPLATE, name, &source));
    c.compiled = jinja_compile((const char *)source.data, source.n, &why);
    if (!c.compiled)
        return jinja_fail(&why, "chat template", err);
    c.trusted = read_variables(file, err);
    if (!c.trusted) {
        chat_template_close(&c);
        return false;
    }
    *chat = c;
    return true;
}

void chat_template_close(struct chat_template *chat)
{
    jinja_template_free(chat->compiled);
    json_decref(chat->trusted);
    *chat = (struct chat_template){0};
}

/* ---- messages as the reference prepares them ---- */

/* A message's reasoning goes by several names; templates read the first. */
static json_t *find_reasoning(json_t *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *value = json_object_get(message, names[i]);
        if (value)
            return value;
    }
    return NULL;
}

static json_t *plain_message(const json_t *message)
{
    json_t *out = json_object(), *value;
    const char *key;
    json_object_foreach((json_t *)(uintptr_t)message, key, value)
    {
        if (!json_is_null(value))
            json_object_set(out, key, value);
    }
    json_t *reasoning = find_reasoning(out);
    if (!reasoning)
        return out;
    if (!json_object_get(out, "thinking")) { /* a new name stands first */
        json_t *named = json_pack("{s:O}", "thinking", reasoning);
        json_object_update(named, out);
        json_decref(out);
        out = named;
    }
    json_object_set(out, "reasoning_content", reasoning);
    return out;
}

static json_t *plain_messages(const json_t *messages, struct tp_error *err)
{
    if (!json_is_array(messages) || json_array_size(messages) == 0) {
        tp_fail(err, TP_E_PROMPT, "messages: an array of at least one expected");
        return NULL;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        if (!json_is_object(message)) {
            tp_fail(err, TP_E_PROMPT, "messages: item %zu: an object expected, %s found", i,
                    json_type_name(message));
            json_decref(list);
            return NULL;
        }
        json_array_append_new(list, plain_message(message));
    }
    return list;
}

bool chat_template_render(const struct chat_template *chat, const struct chat_request *request,
                          struct jinja_text *out, struct tp_error *err)
{
    const struct jinja_options options = {request->now};
    struct jinja_error why;
    json_t *messages = plain_messages(request->messages, err);
    if (!messages)
        return false;
    json_t *tools = request->tools ? json_incref((json_t *)(uintptr_t)request->tools) : json_null();
    json_t *data = json_pack("{s:o, s:o, s:n, s:b}", "messages", messages, "tools", tools,
                             "documents", "add_generation_prompt", request->add_generation_prompt);
    if (!data)
        return tp_fail(err, TP_E_MEMORY, "out of memory: messages");
    bool ok = jinja_render(chat->compiled, chat->trusted, data, &options, out, &why) ||
              jinja_fail(&why, "chat template", err);
    json_decref(data);
    return ok;
}

int64_t chat_now(void)
{
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    return (int64_t)now + local.tm_gmtoff;
}
