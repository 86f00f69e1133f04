/* The parser's state, shared by statements (jinja_parser.c) and expressions
 * (jinja_parse_expression.c, jinja_parse_operand.c). Functions give NULL or false after an error.
 */
#pragma once
#include "jinja_lexer.h"

struct jinja_parser {
    struct jinja_compile *compile;
    struct jinja_lexer lexer;
    struct jinja_token token, pushed;
    bool has_pushed;
    int depth;
    /* of the tags being parsed: their names, and what their bodies end with */
    struct {
        const char *name;
        size_t n;
    } tags[JINJA_DEPTH_MAX + 1];
    const char *const *ends[JINJA_DEPTH_MAX + 1];
    int n_tags, n_ends;
};

/* A list of nodes that grows. */
struct node_list {
    struct jinja_node **items;
    size_t count, cap;
};

/* Both give false. */
#define parser_fail(p, at, ...)                                                                    \
    jinja_compile_fail((p)->compile, JINJA_SYNTAX, (at)->line, (at)->column,                       \
                       "TemplateSyntaxError", __VA_ARGS__)
#define parser_refuse(p, at, format, ...)                                                          \
    jinja_compile_fail((p)->compile, JINJA_SYNTAX, (at)->line, (at)->column, NULL,                 \
                       format " is not supported", ##__VA_ARGS__)
/* On to the next token. */
bool parser_next(struct jinja_parser *p);
/* The token after the current one. */
bool parser_look(struct jinja_parser *p, const struct jinja_token **next);
bool parser_is_name(const struct jinja_token *token, const char *name);
/* Fails with jinja2's "expected token ..."; the token is given before it is left. */
bool parser_expect(struct jinja_parser *p, enum jinja_token_type type, struct jinja_token *token);
/* Left if it is there; *found says so. */
bool parser_skip_name(struct jinja_parser *p, const char *name, bool *found);
bool parser_skip(struct jinja_parser *p, enum jinja_token_type type, bool *found);
bool parser_enter(struct jinja_parser *p);
void parser_leave(struct jinja_parser *p);

/* At the place of a token, with n kids yet to be set. */
struct jinja_node *node_new(struct jinja_parser *p, enum jinja_node_kind kind,
                            const struct jinja_token *at, size_t n_kids);
/* Kids are set: the node's height follows. Gives the node, NULL if that is too high. */
struct jinja_node *node_done(struct jinja_parser *p, struct jinja_node *node);
/* With one or two kids, NULL where a kid is. */
struct jinja_node *node_one(struct jinja_parser *p, enum jinja_node_kind kind,
                            const struct jinja_token *at, struct jinja_node *kid);
struct jinja_node *node_two(struct jinja_parser *p, enum jinja_node_kind kind,
                            const struct jinja_token *at, struct jinja_node *left,
                            struct jinja_node *right);
bool node_list_add(struct jinja_parser *p, struct node_list *list, struct jinja_node *node);
struct jinja_node *node_of_list(struct jinja_parser *p, enum jinja_node_kind kind,
                                const struct jinja_token *at, const struct node_list *list);

struct tuple_rules {
    bool simplified, without_condexpr, explicit_parentheses, with_namespace;
    const char *end; /* a name that ends it too */
};
struct jinja_node *parse_expression(struct jinja_parser *p, bool with_condexpr);
struct jinja_node *parse_tuple(struct jinja_parser *p, const struct tuple_rules *rules);
/* A sign or two, and all that binds tighter; filters and tests where they are wanted. */
struct jinja_node *parse_unary(struct jinja_parser *p, bool with_filter);
struct jinja_node *parse_primary(struct jinja_parser *p, bool with_namespace);
/* none, true, false */
bool parse_constant(const struct jinja_token *t, struct jinja_value *value);
/* operand NULL: for a block. inline_start: the name comes without a pipe. */
struct jinja_node *parse_filter(struct jinja_parser *p, struct jinja_node *operand,
                                bool inline_start);
struct jinja_node *parse_target(struct jinja_parser *p, enum jinja_name_use use, const char *end,
                                bool with_namespace);
struct jinja_node *parse_target_name(struct jinja_parser *p, enum jinja_name_use use);
