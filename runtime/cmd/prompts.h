/* The prompts of a run: given as such, or a file of JSON lines: {"id", "prompt",
 * "prompt_ids" or, with --chat, "messages" (and "tools"), "n"}.
 */
#pragma once
#include "chat.h"
#include "mem.h"
#include "tokenizer.h"

enum { PROMPTS_FILE_MAX = 256 << 20, PROMPTS_COUNT_MAX = 65536, PROMPTS_LINE_MAX = 64 << 20 };

/* What to run on: exactly one of four. */
struct prompts_given {
    const char *text, *text_file, *prompt_ids, *prompts_file;
    uint64_t n;         /* new tokens of each */
    const char *system; /* message of a chat; NULL: none */
};

struct prompt {
    char *id;      /* as JSON: "a" with its quotes, 7 */
    uint32_t *ids; /* [n_ids], at least one, each below vocab */
    uint32_t n_ids;
    uint32_t n;        /* new tokens at most */
    bool cut;          /* n is what the context has room for, fewer than were asked for */
    uint32_t n_cached; /* below n_ids: so many the KV cache holds already */
};

struct prompts {
    struct prompt *list; /* [count], count >= 1 */
    uint32_t count;
    uint64_t total_ids;
    size_t cap;
    struct mem_arena arena;
};

/* tokenizer NULL: the bundle has none; a text is then TP_E_TK_UNSUPPORTED. chat: NULL, or what
 * makes a conversation of a text, as --chat asks. Errors TP_E_PROMPT name
 * the line of the file, or the option. A {0} prompts may be freed. */
bool prompts_read(struct prompts *prompts, const struct prompts_given *given,
                  struct tokenizer *tokenizer, const struct chat *chat, uint64_t vocab,
                  struct tp_error *err);
void prompts_free(struct prompts *prompts);
