#include "chat.h"

#include "mem.h"
#include "text.h"
#include "utf8.h"
#include <string.h>

bool chat_open(struct chat *chat, struct tokenizer *tokenizer, const char *asked,
               bool parse_special, struct tp_error *err)
{
    const struct tokenizer_file *file = &tokenizer->file;
    struct chat c = {
        .tokenizer = tokenizer, .asked = asked, .parse_special = parse_special, .now = chat_now()};
    struct tp_error why = {0};
    const char *name = chat_template_find(file, asked, false, &why);
    if (!name && !(name = chat_template_find(file, asked, true, NULL)))
        return tp_fail(err, why.code, "%s", why.text);
    if (!chat_template_open(&c.template, file, name, err))
        return false;
    *chat = c;
    return true;
}

void chat_close(struct chat *chat)
{
    chat_template_close(&chat->template);
    *chat = (struct chat){0};
}

/* ---- messages ---- */

/* Valid UTF-8: what is none becomes U+FFFD. */
static bool add_valid(struct tp_text *out, const char *text, size_t n, struct tp_error *err)
{
    const unsigned char *s = (const unsigned char *)text;
    bool ok = true;
    for (size_t i = 0, k; ok && i < n; i += k)
        ok = utf8_scan(s + i, n - i, &k) == UTF8_CHAR ? tp_text_add(out, text + i, k, err)
                                                      : tp_text_add(out, "\xef\xbf\xbd", 3, err);
    return ok;
}

bool chat_add(json_t *messages, const char *role, const char *text, size_t n, struct tp_error *err)
{
    struct tp_text valid = {0};
    bool ok = add_valid(&valid, text, n, err);
    if (ok) {
        json_t *content = json_stringn(valid.data ? valid.data : "", valid.n);
        json_t *message = json_pack("{s:s, s:o}", "role", role, "content", content);
        ok = (message && json_array_append_new(messages, message) == 0) ||
             tp_fail(err, TP_E_MEMORY, "out of memory: message");
    }
    mem_free(valid.data);
    return ok;
}

bool chat_encode(const struct chat *chat, const json_t *messages, const json_t *tools,
                 struct token_ids *ids, struct tp_error *err)
{
    const struct tokenizer_file *file = &chat->tokenizer->file;
    const char *name = chat_template_find(file, chat->asked, tools != NULL, err);
    if (!name)
        return false;
    struct chat_request request = {messages, tools, true, chat->now};
    struct chat_template other = {0};
    struct jinja_text text = {0};
    bool is_open = strcmp(name, chat->template.name) == 0;
    bool ok = (is_open || chat_template_open(&other, file, name, err)) &&
              chat_template_render(is_open ? &chat->template : &other, &request, &text, err) &&
              tokenizer_encode(chat->tokenizer, text.bytes, text.n, text.origin,
                               chat->parse_special ? TOKENIZER_PARSE_SPECIAL : 0, ids, err);
    jinja_text_free(&text);
    chat_template_close(&other);
    return ok;
}

/* ---- the end of an answer ---- */

/* The longest added token that text begins with. */
static uint32_t find_added(const struct tokenizer_file *file, const char *text, size_t n)
{
    uint32_t best = TOKEN_NONE;
    size_t longest = 0;
    for (uint32_t i = 0; i < file->added_count; i++) {
        struct tokenizer_added token = tokenizer_file_added(file, i);
        size_t size = token.content.n;
        if (size <= n && size > longest && memcmp(token.content.data, text, size) == 0) {
            longest = size;
            best = token.id;
        }
    }
    return best;
}

/* The added token that follows the last `answer` in rendered text. */
static uint32_t token_after(const struct tokenizer_file *file, const struct jinja_text *text,
                            const char *answer)
{
    size_t n = strlen(answer);
    for (size_t at = text->n; at-- > 0;) {
        if (at + n > text->n || memcmp(text->bytes + at, answer, n) != 0)
            continue;
        for (at += n; at < text->n && memchr(" \t\n\v\f\r", text->bytes[at], 6); at++)
            ;
        return find_added(file, text->bytes + at, text->n - at);
    }
    return TOKEN_NONE;
}

uint32_t chat_turn_end(const struct chat *chat)
{
    static const char answer[] = "AnAnswer1";
    struct tp_error ignored = {0}; /* a template may refuse; then it ends no answer */
    struct jinja_text text = {0};
    uint32_t id = TOKEN_NONE;
    json_t *messages = json_array();
    if (chat_add(messages, "user", "A", 1, &ignored) &&
        chat_add(messages, "assistant", answer, sizeof answer - 1, &ignored)) {
        struct chat_request request = {messages, NULL, false, chat->now};
        if (chat_template_render(&chat->template, &request, &text, &ignored))
            id = token_after(&chat->tokenizer->file, &text, answer);
    }
    jinja_text_free(&text);
    json_decref(messages);
    return id;
}

static void add_stop(struct chat *chat, int64_t id)
{
    for (uint64_t i = 0; i < chat->n_stops; i++)
        if (chat->stops[i] == id)
            return;
    tp_assert(chat->n_stops < CHAT_STOPS_MAX);
    chat->stops[chat->n_stops++] = id;
}

void chat_set_stops(struct chat *chat, const int64_t *eos, uint64_t n_eos)
{
    chat->n_stops = 0;
    for (uint64_t i = 0; i < n_eos; i++)
        add_stop(chat, eos[i]);
    uint32_t id = chat_turn_end(chat);
    if (id != TOKEN_NONE)
        add_stop(chat, id);
}
