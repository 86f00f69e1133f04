#include "jinja_lexer.h"

#include "utf8.h"
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

static const char *const names[TOKEN_TYPES] = {
    "end of template", "template data / text", "begin of statement block", "end of statement block",
    "begin of print statement", "end of print statement", "name", "string", "integer", "float",
    /* operators */
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";"};

const char *jinja_token_type_text(enum jinja_token_type type)
{
    return names[type];
}

const char *jinja_token_text(const struct jinja_token *token, size_t *n)
{
    *n = token->type == TOKEN_NAME ? token->n : strlen(names[token->type]);
    return token->type == TOKEN_NAME ? token->text : names[token->type];
}

void jinja_lexer_init(struct jinja_lexer *lexer, struct jinja_compile *c, const char *source,
                      size_t n)
{
    *lexer = (struct jinja_lexer){
        .compile = c, .source = source, .n = n, .line = 1, .column = 1, .line_starting = true};
}

/* Places are asked for in order, so that all of them together cost one walk. */
static void locate(struct jinja_lexer *l, size_t pos)
{
    for (; l->known < pos; l->known++) {
        unsigned char c = (unsigned char)l->source[l->known];
        if (c == '\n') {
            l->line++;
            l->column = 1;
            l->chars++;
        } else if ((c & 0xc0) != 0x80) {
            l->column++;
            l->chars++;
        }
    }
}

static bool fail(struct jinja_lexer *l, size_t pos, const char *text)
{
    locate(l, pos);
    return jinja_compile_fail(l->compile, JINJA_SYNTAX, l->line, l->column, "TemplateSyntaxError",
                              "%s", text);
}

static bool emit(struct jinja_lexer *l, struct jinja_token *t, enum jinja_token_type type,
                 size_t begin, size_t end)
{
    locate(l, begin);
    *t = (struct jinja_token){.type = type,
                              .line = l->line,
                              .column = l->column,
                              .text = l->source + begin,
                              .n = end - begin};
    return true;
}

static uint32_t char_at(const struct jinja_lexer *l, size_t pos, size_t *k)
{
    const unsigned char *s = (const unsigned char *)l->source + pos;
    *k = utf8_length(s, l->n - pos);
    return utf8_decode(s, *k);
}

static size_t skip_space(const struct jinja_lexer *l, size_t pos)
{
    size_t k;
    while (pos < l->n && jinja_is_space(char_at(l, pos, &k)))
        pos += k;
    return pos;
}

static size_t strip_right(const struct jinja_lexer *l, size_t begin, size_t end)
{
    while (end > begin) {
        size_t p = end - 1, k;
        while (p > begin && ((unsigned char)l->source[p] & 0xc0) == 0x80)
            p--;
        if (!jinja_is_space(char_at(l, p, &k)))
            break;
        end = p;
    }
    return end;
}

static bool looking_at(const struct jinja_lexer *l, size_t pos, const char *text)
{
    size_t n = strlen(text);
    return pos <= l->n && l->n - pos >= n && memcmp(l->source + pos, text, n) == 0;
}

/* A match ended here. */
static void move_to(struct jinja_lexer *l, size_t pos)
{
    l->line_starting = pos > 0 && l->source[pos - 1] == '\n';
    l->pos = pos;
}

/* What remains of text before a tag: lstrip_blocks, or the tag's own sign. */
static size_t text_end(const struct jinja_lexer *l, size_t begin, size_t end, char sign,
                       bool variable)
{
    if (sign == '-')
        return strip_right(l, begin, end);
    if (sign == '+' || variable)
        return end;
    size_t line = end;
    while (line > begin && l->source[line - 1] != '\n')
        line--;
    if (line == begin && !l->line_starting)
        return end;
    return strip_right(l, line, end) == line ? line : end;
}

/* Behind "%}" with trim_blocks, "-%}" with the space after it, or "+%}"; 0: none of them here. */
static size_t block_end(const struct jinja_lexer *l, size_t pos)
{
    if (looking_at(l, pos, "-%}"))
        return skip_space(l, pos + 3);
    if (looking_at(l, pos, "+%}"))
        return pos + 3;
    if (looking_at(l, pos, "%}"))
        return pos + 2 + looking_at(l, pos + 2, "\n");
    return 0;
}

static char sign_at(const struct jinja_lexer *l, size_t pos)
{
    char c = pos < l->n ? l->source[pos] : '\0';
    return c == '-' || c == '+' ? c : '\0';
}

/* Behind {% raw %} at pos, 0: it is another tag. No trim_blocks after it, as in jinja2. */
static size_t raw_begin(const struct jinja_lexer *l, size_t pos)
{
    pos += 2;
    pos = skip_space(l, pos + (sign_at(l, pos) != '\0'));
    if (!looking_at(l, pos, "raw"))
        return 0;
    pos = skip_space(l, pos + 3);
    if (looking_at(l, pos, "-%}"))
        return skip_space(l, pos + 3);
    return looking_at(l, pos, "%}") ? pos + 2 : 0;
}

static size_t raw_end(const struct jinja_lexer *l, size_t pos)
{
    pos += 2;
    pos = skip_space(l, pos + (sign_at(l, pos) != '\0'));
    return looking_at(l, pos, "endraw") ? block_end(l, skip_space(l, pos + 6)) : 0;
}

/* Text up to the next tag; *given: there was some. */
static bool lex_root(struct jinja_lexer *l, struct jinja_token *t, bool *given)
{
    size_t begin = l->pos, pos = begin;
    while (pos + 1 < l->n &&
           !(l->source[pos] == '{' &&
             (l->source[pos + 1] == '%' || l->source[pos + 1] == '{' || l->source[pos + 1] == '#')))
        pos++;
    *given = true;
    if (pos + 1 >= l->n) {
        bool any = begin < l->n;
        move_to(l, l->n);
        return emit(l, t, any ? TOKEN_DATA : TOKEN_EOF, begin, l->n);
    }
    char kind = l->source[pos + 1], sign = sign_at(l, pos + 2);
    size_t end = text_end(l, begin, pos, sign, kind == '{'), after = pos + 2 + (sign != '\0');
    size_t raw = kind == '%' ? raw_begin(l, pos) : 0;
    l->next_state = raw           ? LEXER_RAW
                    : kind == '%' ? LEXER_BLOCK
                    : kind == '{' ? LEXER_VARIABLE
                                  : LEXER_COMMENT;
    l->tag_waits = true;
    l->tag_at = pos;
    *given = end > begin;
    if (*given)
        emit(l, t, TOKEN_DATA, begin, end);
    move_to(l, raw ? raw : after);
    return true;
}

static bool lex_comment(struct jinja_lexer *l)
{
    size_t begin = l->pos, pos = begin;
    while (pos < l->n && !looking_at(l, pos, "#}"))
        pos++;
    if (pos == l->n) {
        l->state = LEXER_ROOT;
        return begin == l->n || fail(l, begin, "Missing end of comment tag");
    }
    char sign = pos > begin ? l->source[pos - 1] : '\0';
    pos += 2;
    if (sign == '-')
        pos = skip_space(l, pos);
    else if (sign != '+')
        pos += looking_at(l, pos, "\n");
    move_to(l, pos);
    l->state = LEXER_ROOT;
    return true;
}

static bool lex_raw(struct jinja_lexer *l, struct jinja_token *t, bool *given)
{
    size_t begin = l->pos, pos = begin, after = 0;
    while (pos < l->n && !(looking_at(l, pos, "{%") && (after = raw_end(l, pos)) > 0))
        pos++;
    *given = false;
    l->state = LEXER_ROOT;
    if (pos == l->n)
        return begin == l->n || fail(l, begin, "Missing end of raw directive");
    size_t end = text_end(l, begin, pos, sign_at(l, pos + 2), false);
    *given = end > begin;
    if (*given)
        emit(l, t, TOKEN_DATA, begin, end);
    move_to(l, after);
    return true;
}

static size_t string_end(const struct jinja_lexer *l, size_t pos)
{
    char quote = l->source[pos];
    for (size_t p = pos + 1; p < l->n; p++) {
        if (l->source[p] == '\\')
            p++;
        else if (l->source[p] == quote)
            return p + 1;
    }
    return 0;
}

static bool balance(struct jinja_lexer *l, char c)
{
    char text[64];
    if (c == '{' || c == '(' || c == '[') {
        if (l->n_brackets == LEXER_BRACKETS_MAX)
            return jinja_compile_fail(l->compile, JINJA_LIMIT, l->line, l->column, NULL,
                                      "brackets nested deeper than %d", LEXER_BRACKETS_MAX);
        l->brackets[l->n_brackets++] = c == '{' ? '}' : c == '(' ? ')' : ']';
        return true;
    }
    if (c != '}' && c != ')' && c != ']')
        return true;
    snprintf(text, sizeof text, "unexpected '%c'", c);
    if (!l->n_brackets)
        return fail(l, l->pos, text);
    char expected = l->brackets[--l->n_brackets];
    snprintf(text, sizeof text, "unexpected '%c', expected '%c'", c, expected);
    return expected == c || fail(l, l->pos, text);
}

static bool lex_operator(struct jinja_lexer *l, struct jinja_token *t)
{
    for (enum jinja_token_type i = TOKEN_FLOORDIV; i < TOKEN_TYPES; i++) {
        if (!looking_at(l, l->pos, names[i]))
            continue;
        size_t n = strlen(names[i]);
        emit(l, t, i, l->pos, l->pos + n);
        if (!balance(l, names[i][0]))
            return false;
        move_to(l, l->pos + n);
        return true;
    }
    size_t k;
    uint32_t c = char_at(l, l->pos, &k);
    utf8proc_category_t kind = utf8proc_category((utf8proc_int32_t)c);
    bool plain = c >= 0x20 && kind != UTF8PROC_CATEGORY_CN && kind < UTF8PROC_CATEGORY_ZS;
    char text[64];
    locate(l, l->pos);
    if (plain)
        snprintf(text, sizeof text, "unexpected char %s%.*s%s at %zu",
                 c == '\''   ? "\""
                 : c == '\\' ? "'\\"
                             : "'",
                 (int)k, l->source + l->pos, c == '\'' ? "\"" : "'", l->chars);
    else
        snprintf(text, sizeof text,
                 c < 0x100     ? "unexpected char '\\x%02x' at %zu"
                 : c < 0x10000 ? "unexpected char '\\u%04x' at %zu"
                               : "unexpected char '\\U%08x' at %zu",
                 (unsigned)c, l->chars);
    return fail(l, l->pos, text);
}

static bool lex_name(struct jinja_lexer *l, struct jinja_token *t)
{
    size_t end = l->pos, k;
    while (end < l->n && jinja_is_word(char_at(l, end, &k)))
        end += k;
    emit(l, t, TOKEN_NAME, l->pos, end);
    for (size_t i = 0; i < t->n; i++)
        if ((unsigned char)t->text[i] >= 0x80)
            return jinja_compile_fail(l->compile, JINJA_SYNTAX, t->line, t->column, NULL,
                                      "a name beyond ASCII is not supported");
    move_to(l, end);
    return true;
}

static bool lex_literal(struct jinja_lexer *l, struct jinja_token *t, size_t end,
                        enum jinja_token_type type)
{
    emit(l, t, type, l->pos, end);
    if (type == TOKEN_INTEGER && *t->text == '0' && end < l->n && strchr("xXoObB", l->source[end]))
        return jinja_compile_fail(l->compile, JINJA_SYNTAX, t->line, t->column, NULL,
                                  "an integer of another base is not supported");
    move_to(l, end);
    return type == TOKEN_STRING ? jinja_decode_string(l, t) : jinja_decode_number(l, t);
}

static size_t tag_end(const struct jinja_lexer *l)
{
    if (l->n_brackets)
        return 0;
    if (l->state == LEXER_BLOCK)
        return block_end(l, l->pos);
    if (looking_at(l, l->pos, "-}}"))
        return skip_space(l, l->pos + 3);
    return looking_at(l, l->pos, "}}") ? l->pos + 2 : 0;
}

static bool lex_tag(struct jinja_lexer *l, struct jinja_token *t)
{
    size_t end = tag_end(l);
    if (!end) {
        size_t pos = skip_space(l, l->pos);
        if (pos > l->pos)
            move_to(l, pos);
        end = tag_end(l);
    }
    if (l->pos == l->n)
        return emit(l, t, TOKEN_EOF, l->n, l->n);
    if (end) {
        emit(l, t, l->state == LEXER_BLOCK ? TOKEN_BLOCK_END : TOKEN_VARIABLE_END, l->pos, end);
        l->state = LEXER_ROOT;
        move_to(l, end);
        return true;
    }
    bool real;
    const char *s = l->source + l->pos;
    size_t n = jinja_number_length(s, l->n - l->pos, l->pos && s[-1] == '.', &real), k;
    if (n)
        return lex_literal(l, t, l->pos + n, real ? TOKEN_FLOAT : TOKEN_INTEGER);
    if (jinja_is_word(char_at(l, l->pos, &k)))
        return lex_name(l, t);
    if ((*s == '\'' || *s == '"') && (end = string_end(l, l->pos)) > 0)
        return lex_literal(l, t, end, TOKEN_STRING);
    return lex_operator(l, t);
}

bool jinja_lexer_next(struct jinja_lexer *l, struct jinja_token *t)
{
    for (;;) {
        bool given = false;
        if (l->tag_waits) {
            l->tag_waits = false;
            l->state = l->next_state;
            if (l->state == LEXER_BLOCK || l->state == LEXER_VARIABLE)
                return emit(l, t,
                            l->state == LEXER_BLOCK ? TOKEN_BLOCK_BEGIN : TOKEN_VARIABLE_BEGIN,
                            l->tag_at, l->tag_at + 2);
        }
        bool ok = true;
        switch (l->state) {
        case LEXER_BLOCK:
        case LEXER_VARIABLE:
            return lex_tag(l, t);
        case LEXER_ROOT:
            ok = lex_root(l, t, &given);
            break;
        case LEXER_RAW:
            ok = lex_raw(l, t, &given);
            break;
        case LEXER_COMMENT:
            ok = lex_comment(l);
            break;
        }
        if (!ok || given)
            return ok;
    }
}
