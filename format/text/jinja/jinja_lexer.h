/* Source to tokens, one at a time, as jinja2's lexer cuts it: template text with trim_blocks and
 * lstrip_blocks, tags, comments, raw blocks. Errors come when their token is asked for.
 */
#pragma once
#include "jinja_ast.h"
#include "jinja_inside.h"

/* clang-format off */
enum jinja_token_type {
    TOKEN_EOF, TOKEN_DATA, TOKEN_BLOCK_BEGIN, TOKEN_BLOCK_END, TOKEN_VARIABLE_BEGIN,
    TOKEN_VARIABLE_END, TOKEN_NAME, TOKEN_STRING, TOKEN_INTEGER, TOKEN_FLOAT,
    /* operators, the longer first */
    TOKEN_FLOORDIV, TOKEN_POW, TOKEN_EQ, TOKEN_NE, TOKEN_GTEQ, TOKEN_LTEQ, TOKEN_ADD, TOKEN_SUB,
    TOKEN_DIV, TOKEN_MUL, TOKEN_MOD, TOKEN_TILDE, TOKEN_LBRACKET, TOKEN_RBRACKET, TOKEN_LPAREN,
    TOKEN_RPAREN, TOKEN_LBRACE, TOKEN_RBRACE, TOKEN_GT, TOKEN_LT, TOKEN_ASSIGN, TOKEN_DOT,
    TOKEN_COLON, TOKEN_PIPE, TOKEN_COMMA, TOKEN_SEMICOLON, TOKEN_TYPES,
};
/* clang-format on */

struct jinja_token {
    enum jinja_token_type type;
    uint32_t line, column;
    const char *text; /* NAME, DATA, and the digits or quotes of literals: bytes of the source */
    size_t n;
    struct jinja_value value; /* STRING, INTEGER, FLOAT */
};

enum lexer_state { LEXER_ROOT, LEXER_BLOCK, LEXER_VARIABLE, LEXER_COMMENT, LEXER_RAW };
enum { LEXER_BRACKETS_MAX = 256 };

struct jinja_lexer {
    struct jinja_compile *compile;
    const char *source;
    size_t n, pos;
    enum lexer_state state;
    enum lexer_state next_state; /* after the text that is being given out */
    bool tag_waits;              /* the begin of that state is yet to be given out */
    size_t tag_at;               /* where it stands */
    bool line_starting;          /* the last match ended with a newline */
    char brackets[LEXER_BRACKETS_MAX];
    size_t n_brackets;
    /* a place and its line, column, characters before it */
    size_t known;
    uint32_t line, column;
    size_t chars;
};

/* source: valid UTF-8 with \n as its only line break, kept by reference. */
void jinja_lexer_init(struct jinja_lexer *lexer, struct jinja_compile *c, const char *source,
                      size_t n);
/* At the end TOKEN_EOF, again and again. */
bool jinja_lexer_next(struct jinja_lexer *lexer, struct jinja_token *token);
/* As jinja2 calls it in messages; a name is itself (then *n of its bytes). */
const char *jinja_token_text(const struct jinja_token *token, size_t *n);
const char *jinja_token_type_text(enum jinja_token_type type);

/* ---- what stands between quotes, and numbers (jinja_literal.c) ---- */

/* The characters of a string token, as Python's unicode-escape decodes them. */
bool jinja_decode_string(struct jinja_lexer *lexer, struct jinja_token *token);
bool jinja_decode_number(struct jinja_lexer *lexer, struct jinja_token *token);
/* May the character stand in a word? */
bool jinja_is_word(uint32_t c);
/* Bytes of the number that begins at text, 0: none. *real: with fraction or exponent. */
size_t jinja_number_length(const char *text, size_t n, bool after_dot, bool *real);
