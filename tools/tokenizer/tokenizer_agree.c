#include "tokenizer_agree.h"

#include "chat_source.h"
#include "checked.h"
#include "json.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char config_name[] = "tokenizer_config.json";

struct comparing {
    const struct tokenizer_file *file;
    const struct model_config *model; /* or NULL */
    const json_t *without;
    struct findings *findings;
};

/* Entries of a file that tokenizer.json has otherwise. */
struct differing {
    char first[2 * TP_NAME_BUF]; /* what is wrong with it */
    uint32_t count;
};

/* What another file says of a token, beside its text. */
struct wanted {
    const uint64_t *id;  /* NULL: any */
    const json_t *flags; /* {"lstrip": true ...}, those that it has; or NULL */
    bool special;        /* it is a control token */
};

static bool find_added(const struct tokenizer_file *file, uint32_t id,
                       struct tokenizer_added *added)
{
    for (uint32_t i = 0; i < file->added_count; i++) {
        *added = tokenizer_file_added(file, i);
        if (added->id == id)
            return true;
    }
    return false;
}

/* How tokenizer.json has that token otherwise; NULL: it has it so. buf: [64] */
static const char *other_kind(const struct comparing *c, uint32_t id, const struct wanted *wanted,
                              char *buf)
{
    static const struct {
        const char *key;
        uint32_t flag;
    } flags[] = {{"special", ADDED_SPECIAL},
                 {"lstrip", ADDED_LSTRIP},
                 {"rstrip", ADDED_RSTRIP},
                 {"single_word", ADDED_SINGLE_WORD}};
    struct tokenizer_added added;
    if (!find_added(c->file, id, &added))
        return "it as text alone, which is cut into others";
    if (wanted->special && !(added.flags & ADDED_SPECIAL))
        return "it as no special token: in a message its text is the token";
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        const json_t *value = json_object_get(wanted->flags, flags[i].key);
        const bool set = added.flags & flags[i].flag;
        if (!json_is_boolean(value) || json_is_true(value) == set)
            continue;
        snprintf(buf, 64, "it with %s %s", flags[i].key, set ? "true" : "false");
        return buf;
    }
    return NULL;
}

static void compare(const struct comparing *c, const char *text, size_t n,
                    const struct wanted *wanted, struct differing *d)
{
    const uint64_t *id = wanted->id;
    char name[TP_NAME_BUF], buf[64], own[32] = "";
    const uint32_t found = tokenizer_file_named(c->file, text, n);
    const char *other = "no such token";
    if (json_object_getn(c->without, text, n) ||
        (id && found == TOKEN_NONE && c->model && *id >= c->model->vocab))
        return; /* it was left out */
    if (found != TOKEN_NONE && id && found != *id) {
        snprintf(buf, sizeof buf, "it with %u", found);
        other = buf;
    } else if (found != TOKEN_NONE) {
        other = other_kind(c, found, wanted, buf);
    }
    if (!other || d->count++ > 0)
        return;
    if (id)
        snprintf(own, sizeof own, " has id %llu", (unsigned long long)*id);
    snprintf(d->first, sizeof d->first, "token \"%s\"%s, tokenizer.json has %s",
             tp_name_cut(name, text, n), own, other);
}

static void malformed(struct differing *d, const char *key)
{
    char name[TP_NAME_BUF];
    if (d->count++ == 0)
        snprintf(d->first, sizeof d->first, "entry \"%s\" is malformed",
                 tp_name_cut(name, key, strlen(key)));
}

static bool warn_of(const struct comparing *c, const char *where, const struct differing *d,
                    struct tp_error *err)
{
    char more[48] = "";
    if (d->count > 1)
        snprintf(more, sizeof more, " (and %u more)", d->count - 1);
    return !d->count || finding_warn(c->findings, TP_E_TK_INVALID, err,
                                     "%s: %s%s; tokenizer.json counts", where, d->first, more);
}

/* {"7": {"content": "<s>"}} */
static bool check_decoder(const struct comparing *c, const json_t *decoder, struct tp_error *err)
{
    const char *key;
    json_t *entry;
    uint64_t id;
    struct differing d = {0};
    if (decoder && !json_is_object(decoder))
        return finding_warn(c->findings, TP_E_TK_INVALID, err,
                            "%s: added_tokens_decoder: an object expected, %s found: it is ignored",
                            config_name, json_type_name(decoder));
    json_object_foreach((json_t *)(uintptr_t)decoder, key, entry)
    {
        const json_t *content = json_object_get(entry, "content");
        if (json_is_string(content) && tp_parse_u64(key, strlen(key), &id))
            compare(c, json_string_value(content), json_string_length(content),
                    &(struct wanted){&id, entry, false}, &d);
        else
            malformed(&d, key);
    }
    return warn_of(c, "tokenizer_config.json: added_tokens_decoder", &d, err);
}

/* added_tokens.json, {"<s>": 7}: read where tokenizer_config.json has no added_tokens_decoder. */
static bool check_added(const struct comparing *c, const json_t *added, struct tp_error *err)
{
    const char *key;
    json_t *value;
    struct differing d = {0};
    json_object_foreach((json_t *)(uintptr_t)added, key, value)
    {
        double number = json_is_number(value) ? json_number_value(value) : -1;
        if (!(number >= 0 && number < INT32_MAX && number == floor(number))) {
            malformed(&d, key);
            continue;
        }
        uint64_t id = (uint64_t)number;
        compare(c, key, strlen(key), &(struct wanted){&id, NULL, false}, &d);
    }
    return warn_of(c, "added_tokens.json", &d, err);
}

static void compare_any(const struct comparing *c, const json_t *token, struct differing *d)
{
    const json_t *text = chat_token_text(token);
    if (text)
        compare(c, json_string_value(text), json_string_length(text),
                &(struct wanted){NULL, NULL, true}, d);
}

/* A list of tokens, or an object that names them. */
static bool check_more(const struct comparing *c, const char *where, const json_t *tokens,
                       struct tp_error *err)
{
    const char *key;
    json_t *value;
    size_t i;
    struct differing d = {0};
    json_array_foreach(tokens, i, value)
    {
        compare_any(c, value, &d);
    }
    json_object_foreach((json_t *)(uintptr_t)tokens, key, value)
    {
        compare_any(c, value, &d);
    }
    return warn_of(c, where, &d, err);
}

static bool check_bos(const struct comparing *c, const char *name, uint32_t id,
                      struct tp_error *err)
{
    const struct model_config *m = c->model;
    return !m || m->bos_id < 0 || m->bos_id == (int64_t)id ||
           finding_warn(c->findings, TP_E_TK_INVALID, err,
                        "%s: bos_token \"%s\" has id %u, config.json: %lld; the tokenizer's counts",
                        config_name, name, id, (long long)m->bos_id);
}

static bool check_eos(const struct comparing *c, const char *name, uint32_t id,
                      struct tp_error *err)
{
    const struct model_config *m = c->model;
    bool same = !m || m->n_eos == 0;
    for (uint64_t i = 0; !same && i < m->n_eos; i++)
        same = m->eos_id[i] == (int64_t)id;
    return same ||
           finding_warn(
               c->findings, TP_E_TK_INVALID, err,
               "%s: eos_token \"%s\" has id %u, config.json: %lld; an answer ends at either",
               config_name, name, id, (long long)m->eos_id[0]);
}

/* bos_token, eos_token ... */
static bool check_token(const struct comparing *c, const char *key, const json_t *value,
                        struct tp_error *err)
{
    char name[TP_NAME_BUF];
    const json_t *text = chat_token_text(value);
    if (!value)
        return true;
    if (!text)
        return finding_warn(c->findings, TP_E_TK_INVALID, err,
                            "%s: %s: a text expected, %s found: it is ignored", config_name, key,
                            json_type_name(value));
    size_t n = json_string_length(text);
    uint32_t id = tokenizer_file_named(c->file, json_string_value(text), n);
    tp_name_cut(name, json_string_value(text), n);
    if (id == TOKEN_NONE) /* what was left out was said */
        return json_object_getn(c->without, json_string_value(text), n) ||
               finding_warn(c->findings, TP_E_TK_INVALID, err,
                            "%s: %s \"%s\", tokenizer.json has no such token: it stays a text",
                            config_name, key, name);
    char buf[64];
    const char *other = other_kind(c, id, &(struct wanted){NULL, NULL, true}, buf);
    if (other &&
        !finding_warn(c->findings, TP_E_TK_INVALID, err, "%s: %s \"%s\", tokenizer.json has %s",
                      config_name, key, name, other))
        return false;
    return strcmp(key, "bos_token") == 0   ? check_bos(c, name, id, err)
           : strcmp(key, "eos_token") == 0 ? check_eos(c, name, id, err)
                                           : true;
}

static bool check_split(const struct comparing *c, const json_t *config, struct tp_error *err)
{
    return !json_is_true(json_find(config, "split_special_tokens")) ||
           finding_warn(c->findings, TP_E_TK_INVALID, err,
                        "%s: split_special_tokens is true: it is not followed, a control token in "
                        "a text is a token",
                        config_name);
}

static bool check(const struct comparing *c, const json_t *config, const json_t *added,
                  struct tp_error *err)
{
    const json_t *decoder = json_find(config, "added_tokens_decoder");
    bool ok = check_split(c, config, err) && check_decoder(c, decoder, err) &&
              check_added(c, added, err) &&
              check_more(c, "tokenizer_config.json: additional_special_tokens",
                         json_find(config, "additional_special_tokens"), err) &&
              check_more(c, "tokenizer_config.json: extra_special_tokens",
                         json_find(config, "extra_special_tokens"), err);
    for (size_t i = 0; ok && i < CHAT_TOKENS; i++)
        ok = check_token(c, chat_tokens[i], json_find(config, chat_tokens[i]), err);
    return ok;
}

bool tokenizer_agree(const char *dir, const struct model_config *model, const json_t *without,
                     const unsigned char *data, uint64_t n, struct findings *findings,
                     struct tp_error *err)
{
    struct tokenizer_file file;
    const struct comparing comparing = {&file, model, without, findings};
    json_t *config = NULL, *added = NULL;
    bool ok = tokenizer_file_open(data, n, "tokenizer.json", &file, err) &&
              chat_config_read(dir, config_name, NULL, &config, err) &&
              (json_find(config, "added_tokens_decoder") ||
               chat_config_read(dir, "added_tokens.json", findings, &added, err)) &&
              check(&comparing, config, added, err);
    json_decref(config);
    json_decref(added);
    return ok;
}
