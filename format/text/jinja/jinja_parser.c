#include "jinja_parser.h"

#include <stdio.h>
#include <string.h>

/* ---- tokens ---- */

bool parser_next(struct jinja_parser *p)
{
    if (p->has_pushed) {
        p->token = p->pushed;
        p->has_pushed = false;
        return true;
    }
    return jinja_lexer_next(&p->lexer, &p->token);
}

bool parser_look(struct jinja_parser *p, const struct jinja_token **next)
{
    *next = &p->pushed;
    if (p->has_pushed)
        return true;
    p->has_pushed = jinja_lexer_next(&p->lexer, &p->pushed);
    return p->has_pushed;
}

bool parser_is_name(const struct jinja_token *token, const char *name)
{
    return token->type == TOKEN_NAME && token->n == strlen(name) &&
           memcmp(token->text, name, token->n) == 0;
}

static bool fail_expected(struct jinja_parser *p, const char *expected)
{
    size_t n;
    const char *text = jinja_token_text(&p->token, &n);
    if (p->token.type == TOKEN_EOF)
        return parser_fail(p, &p->token, "unexpected end of template, expected '%s'.", expected);
    return parser_fail(p, &p->token, "expected token '%s', got '%.*s'", expected, (int)n, text);
}

bool parser_expect(struct jinja_parser *p, enum jinja_token_type type, struct jinja_token *token)
{
    if (p->token.type != type)
        return fail_expected(p, jinja_token_type_text(type));
    if (token)
        *token = p->token;
    return parser_next(p);
}

static bool expect_name(struct jinja_parser *p, const char *name)
{
    return parser_is_name(&p->token, name) ? parser_next(p) : fail_expected(p, name);
}

bool parser_skip_name(struct jinja_parser *p, const char *name, bool *found)
{
    *found = parser_is_name(&p->token, name);
    return !*found || parser_next(p);
}

bool parser_skip(struct jinja_parser *p, enum jinja_token_type type, bool *found)
{
    *found = p->token.type == type;
    return !*found || parser_next(p);
}

bool parser_enter(struct jinja_parser *p)
{
    if (p->depth == JINJA_DEPTH_MAX)
        return jinja_compile_fail(p->compile, JINJA_LIMIT, p->token.line, p->token.column, NULL,
                                  "nested deeper than %d", JINJA_DEPTH_MAX);
    p->depth++;
    return true;
}

void parser_leave(struct jinja_parser *p)
{
    p->depth--;
}

/* ---- nodes ---- */

struct jinja_node *node_new(struct jinja_parser *p, enum jinja_node_kind kind,
                            const struct jinja_token *at, size_t n_kids)
{
    struct jinja_node *node = jinja_compile_alloc(p->compile, sizeof *node);
    if (!node)
        return NULL;
    *node = (struct jinja_node){.kind = kind, .line = at->line, .column = at->column, .height = 1};
    if (!n_kids)
        return node;
    node->n_kids = n_kids;
    node->kids = jinja_compile_alloc(p->compile, n_kids * sizeof(struct jinja_node *));
    return node->kids ? node : NULL;
}

struct jinja_node *node_done(struct jinja_parser *p, struct jinja_node *node)
{
    uint32_t height = 0;
    for (size_t i = 0; i < node->n_kids; i++)
        if (node->kids[i] && node->kids[i]->height > height)
            height = node->kids[i]->height;
    node->height = height + 1;
    if (node->height <= JINJA_HEIGHT_MAX)
        return node;
    jinja_compile_fail(p->compile, JINJA_LIMIT, node->line, node->column, NULL,
                       "an expression of more than %d levels", JINJA_HEIGHT_MAX);
    return NULL;
}

struct jinja_node *node_two(struct jinja_parser *p, enum jinja_node_kind kind,
                            const struct jinja_token *at, struct jinja_node *left,
                            struct jinja_node *right)
{
    struct jinja_node *node = left && right ? node_new(p, kind, at, 2) : NULL;
    if (!node)
        return NULL;
    node->kids[0] = left;
    node->kids[1] = right;
    return node_done(p, node);
}

struct jinja_node *node_one(struct jinja_parser *p, enum jinja_node_kind kind,
                            const struct jinja_token *at, struct jinja_node *kid)
{
    struct jinja_node *node = kid ? node_new(p, kind, at, 1) : NULL;
    if (!node)
        return NULL;
    node->kids[0] = kid;
    return node_done(p, node);
}

bool node_list_add(struct jinja_parser *p, struct node_list *list, struct jinja_node *node)
{
    if (!node)
        return false;
    if (list->count == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 4;
        struct jinja_node **items = jinja_compile_alloc(p->compile, cap * sizeof *items);
        if (!items)
            return false;
        if (list->count)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->cap = cap;
    }
    list->items[list->count++] = node;
    return true;
}

struct jinja_node *node_of_list(struct jinja_parser *p, enum jinja_node_kind kind,
                                const struct jinja_token *at, const struct node_list *list)
{
    struct jinja_node *node = node_new(p, kind, at, 0);
    if (!node)
        return NULL;
    node->kids = list->items;
    node->n_kids = list->count;
    return node_done(p, node);
}

/* ---- unknown tags and early ends ---- */

static bool ends_with(const char *const *ends, const struct jinja_token *token)
{
    for (; ends && *ends; ends++)
        if (parser_is_name(token, *ends))
            return true;
    return false;
}

/* tag NULL: the template ended. */
static bool fail_tag(struct jinja_parser *p, const struct jinja_token *tag)
{
    char wanted[300] = "", inside[300] = "";
    const char *const *ends = p->n_ends ? p->ends[p->n_ends - 1] : NULL;
    bool nesting = false;
    for (int i = 0; tag && i < p->n_ends; i++)
        nesting |= ends_with(p->ends[i], tag);
    const char *before = nesting ? " You probably made a nesting mistake. Jinja is expecting this "
                                   "tag, but currently looking for "
                                 : " Jinja was looking for the following tags: ";
    for (size_t i = 0, n = 0; ends && ends[i]; i++)
        n += (size_t)snprintf(wanted + n, sizeof wanted - n, "%s'%s'%s", i ? " or " : before,
                              ends[i], ends[i + 1] ? "" : ".");
    if (p->n_tags)
        snprintf(inside, sizeof inside, " The innermost block that needs to be closed is '%.*s'.",
                 (int)p->tags[p->n_tags - 1].n, p->tags[p->n_tags - 1].name);
    if (!tag)
        return parser_fail(p, &p->token, "Unexpected end of template.%s%s", wanted, inside);
    return parser_fail(p, tag, "Encountered unknown tag '%.*s'.%s%s",
                       tag->n < 256 ? (int)tag->n : 256, tag->text, wanted, inside);
}

/* ---- bodies ---- */

static struct jinja_node *statement(struct jinja_parser *p);

static struct jinja_node *data(struct jinja_parser *p)
{
    struct jinja_node *node = node_new(p, NODE_DATA, &p->token, 0);
    struct jinja_string *string = jinja_compile_alloc(p->compile, sizeof *string);
    char *bytes = string ? jinja_compile_alloc(p->compile, p->token.n + 1) : NULL;
    if (!node || !bytes)
        return NULL;
    memcpy(bytes, p->token.text, p->token.n);
    *string = (struct jinja_string){
        .bytes = bytes, .n = p->token.n, .n_chars = jinja_count_chars(bytes, p->token.n)};
    node->value = (struct jinja_value){.kind = JINJA_STRING, .string = string};
    return parser_next(p) ? node : NULL;
}

static struct jinja_node *print_tag(struct jinja_parser *p)
{
    struct jinja_token at = p->token;
    struct node_list list = {0};
    if (!parser_next(p) || !node_list_add(p, &list, parse_tuple(p, &(struct tuple_rules){0})) ||
        !parser_expect(p, TOKEN_VARIABLE_END, NULL))
        return NULL;
    return node_of_list(p, NODE_PRINT, &at, &list);
}

/* One piece of a body; *ended: it was one of the ends, whose name is the current token. */
static struct jinja_node *piece(struct jinja_parser *p, const char *const *ends, bool *ended)
{
    if (p->token.type == TOKEN_DATA)
        return data(p);
    if (p->token.type == TOKEN_VARIABLE_BEGIN)
        return print_tag(p);
    if (!parser_next(p))
        return NULL;
    *ended = ends_with(ends, &p->token);
    if (*ended)
        return NULL;
    struct jinja_node *node = statement(p);
    return node && parser_expect(p, TOKEN_BLOCK_END, NULL) ? node : NULL;
}

/* Until one of the ends, which is then the current token, or the template's end. */
static struct jinja_node *pieces(struct jinja_parser *p, const char *const *ends)
{
    struct jinja_token at = p->token;
    struct node_list list = {0};
    bool ended = false;
    if (!parser_enter(p))
        return NULL;
    if (ends)
        p->ends[p->n_ends++] = ends;
    while (p->token.type != TOKEN_EOF && !ended)
        if (!node_list_add(p, &list, piece(p, ends, &ended)) && !ended)
            return NULL;
    if (ends && !ended)
        return fail_tag(p, NULL), NULL;
    if (ends)
        p->n_ends--;
    parser_leave(p);
    return node_of_list(p, NODE_BODY, &at, &list);
}

/* The body of a tag, from behind its head. drop: the end's name is left, too. */
static struct jinja_node *body(struct jinja_parser *p, const char *const *ends, bool drop)
{
    bool colon;
    if (!parser_skip(p, TOKEN_COLON, &colon) || !parser_expect(p, TOKEN_BLOCK_END, NULL))
        return NULL;
    struct jinja_node *node = pieces(p, ends);
    return node && (!drop || parser_next(p)) ? node : NULL;
}

/* ---- tags ---- */

typedef struct jinja_node *tag_parser(struct jinja_parser *p, const struct jinja_token *at);

static struct jinja_node *parse_for(struct jinja_parser *p, const struct jinja_token *at)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    struct jinja_node *node = node_new(p, NODE_FOR, at, FOR_KIDS);
    bool test;
    if (!node || !(node->kids[FOR_TARGET] = parse_target(p, USE_STORE, "in", false)) ||
        !expect_name(p, "in") ||
        !(node->kids[FOR_ITER] = parse_tuple(
              p, &(struct tuple_rules){.without_condexpr = true, .end = "recursive"})) ||
        !parser_skip_name(p, "if", &test) ||
        (test && !(node->kids[FOR_TEST] = parse_expression(p, true))))
        return NULL;
    if (parser_is_name(&p->token, "recursive"))
        return parser_refuse(p, &p->token, "a recursive loop"), NULL;
    if (!(node->kids[FOR_BODY] = body(p, ends, false)))
        return NULL;
    if (parser_is_name(&p->token, "else"))
        return parser_refuse(p, &p->token, "'else' of a loop"), NULL;
    return parser_next(p) ? node_done(p, node) : NULL;
}

static struct jinja_node *parse_if(struct jinja_parser *p, const struct jinja_token *at)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif",
                                                                                        NULL};
    struct node_list list = {0};
    for (bool more = true; more;) {
        if (!node_list_add(p, &list,
                           parse_tuple(p, &(struct tuple_rules){.without_condexpr = true})) ||
            !node_list_add(p, &list, body(p, ends, false)))
            return NULL;
        more = parser_is_name(&p->token, "elif");
        bool other = parser_is_name(&p->token, "else");
        if (!parser_next(p) || (other && !node_list_add(p, &list, body(p, last, true))))
            return NULL;
    }
    return node_of_list(p, NODE_IF, at, &list);
}

static struct jinja_node *parse_set(struct jinja_parser *p, const struct jinja_token *at)
{
    static const char *const ends[] = {"endset", NULL};
    bool assign;
    struct jinja_node *target = parse_target(p, USE_STORE, NULL, true);
    if (!target || !parser_skip(p, TOKEN_ASSIGN, &assign))
        return NULL;
    struct jinja_node *node = node_new(p, assign ? NODE_SET : NODE_SET_BLOCK, at, assign ? 2 : 3);
    if (!node)
        return NULL;
    node->kids[0] = target;
    if (assign)
        node->kids[1] = parse_tuple(p, &(struct tuple_rules){0});
    else if (p->token.type == TOKEN_PIPE && !(node->kids[1] = parse_filter(p, NULL, false)))
        return NULL;
    if (!assign)
        node->kids[2] = body(p, ends, true);
    return node->kids[node->n_kids - 1] ? node_done(p, node) : NULL;
}

static struct jinja_node *parse_with(struct jinja_parser *p, const struct jinja_token *at)
{
    static const char *const ends[] = {"endwith", NULL};
    struct node_list list = {0};
    while (p->token.type != TOKEN_BLOCK_END)
        if ((list.count && !parser_expect(p, TOKEN_COMMA, NULL)) ||
            !node_list_add(p, &list, parse_target(p, USE_PARAM, NULL, false)) ||
            !parser_expect(p, TOKEN_ASSIGN, NULL) ||
            !node_list_add(p, &list, parse_expression(p, true)))
            return NULL;
    return node_list_add(p, &list, body(p, ends, true)) ? node_of_list(p, NODE_WITH, at, &list)
                                                        : NULL;
}

/* "(a, b=c)" into the tuples of a macro. */
static bool signature(struct jinja_parser *p, struct jinja_node *node)
{
    struct node_list params = {0}, defaults = {0};
    struct jinja_token at = p->token;
    if (!parser_expect(p, TOKEN_LPAREN, NULL))
        return false;
    while (p->token.type != TOKEN_RPAREN) {
        bool assign;
        if ((params.count && !parser_expect(p, TOKEN_COMMA, NULL)) ||
            !node_list_add(p, &params, parse_target_name(p, USE_PARAM)) ||
            !parser_skip(p, TOKEN_ASSIGN, &assign))
            return false;
        if (assign && !node_list_add(p, &defaults, parse_expression(p, true)))
            return false;
        if (!assign && defaults.count)
            return parser_fail(p, &p->token, "non-default argument follows default argument");
        for (size_t i = 0; i + 1 < params.count; i++)
            if (params.items[i]->name == params.items[params.count - 1]->name)
                return jinja_compile_fail(p->compile, JINJA_SYNTAX, p->token.line, p->token.column,
                                          "SyntaxError",
                                          "duplicate argument 'l_1_%s' in function definition",
                                          params.items[i]->name->text.bytes);
    }
    node->kids[MACRO_PARAMS] = node_of_list(p, NODE_TUPLE, &at, &params);
    node->kids[MACRO_DEFAULTS] = node_of_list(p, NODE_TUPLE, &at, &defaults);
    return node->kids[MACRO_PARAMS] && node->kids[MACRO_DEFAULTS] && parser_next(p);
}

static struct jinja_node *parse_macro(struct jinja_parser *p, const struct jinja_token *at)
{
    static const char *const ends[] = {"endmacro", NULL};
    struct jinja_node *name = parse_target_name(p, USE_STORE);
    struct jinja_node *node = name ? node_new(p, NODE_MACRO, at, MACRO_KIDS) : NULL;
    if (!node || !signature(p, node) || !(node->kids[MACRO_BODY] = body(p, ends, true)))
        return NULL;
    node->name = name->name;
    return node_done(p, node);
}

static bool no_signature(struct jinja_parser *p, struct jinja_node *node)
{
    node->kids[MACRO_PARAMS] = node_new(p, NODE_TUPLE, &p->token, 0);
    node->kids[MACRO_DEFAULTS] = node_new(p, NODE_TUPLE, &p->token, 0);
    return node->kids[MACRO_PARAMS] && node->kids[MACRO_DEFAULTS];
}

static struct jinja_node *parse_call(struct jinja_parser *p, const struct jinja_token *at)
{
    static const char *const ends[] = {"endcall", NULL};
    struct jinja_node *node = node_new(p, NODE_CALL_BLOCK, at, CALL_KIDS);
    if (!node || !(p->token.type == TOKEN_LPAREN ? signature(p, node) : no_signature(p, node)) ||
        !(node->kids[CALL_CALL] = parse_expression(p, true)))
        return NULL;
    if (node->kids[CALL_CALL]->kind != NODE_CALL) {
        parser_fail(p, at, "expected call");
        return NULL;
    }
    return (node->kids[MACRO_BODY] = body(p, ends, true)) ? node_done(p, node) : NULL;
}

/* {% generation %}: a call block whose caller is called at once. */
static struct jinja_node *parse_generation(struct jinja_parser *p, const struct jinja_token *at)
{
    static const char *const ends[] = {"endgeneration", NULL};
    struct jinja_node *node = node_new(p, NODE_CALL_BLOCK, at, CALL_KIDS);
    if (!node || !no_signature(p, node) || !(node->kids[MACRO_BODY] = body(p, ends, true)))
        return NULL;
    return node_done(p, node);
}

static struct jinja_node *parse_filter_block(struct jinja_parser *p, const struct jinja_token *at)
{
    static const char *const ends[] = {"endfilter", NULL};
    struct jinja_node *node = node_new(p, NODE_FILTER_BLOCK, at, 2);
    if (!node || !(node->kids[1] = parse_filter(p, NULL, true)) ||
        !(node->kids[0] = body(p, ends, true)))
        return NULL;
    return node_done(p, node);
}

static struct jinja_node *parse_print(struct jinja_parser *p, const struct jinja_token *at)
{
    struct node_list list = {0};
    while (p->token.type != TOKEN_BLOCK_END)
        if ((list.count && !parser_expect(p, TOKEN_COMMA, NULL)) ||
            !node_list_add(p, &list, parse_expression(p, true)))
            return NULL;
    return node_of_list(p, NODE_PRINT, at, &list);
}

static struct jinja_node *parse_break(struct jinja_parser *p, const struct jinja_token *at)
{
    return node_new(p, parser_is_name(at, "break") ? NODE_BREAK : NODE_CONTINUE, at, 0);
}

/* Tags that need other templates, and those that no chat template has. */
static struct jinja_node *refuse(struct jinja_parser *p, const struct jinja_token *at)
{
    parser_refuse(p, at, "the tag '%.*s'", (int)at->n, at->text);
    return NULL;
}

static const struct {
    const char *name;
    tag_parser *parse;
} tags[] = {
    {"for", parse_for},
    {"if", parse_if},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"print", parse_print},
    {"break", parse_break},
    {"continue", parse_break},
    {"generation", parse_generation},
    {"block", refuse},
    {"autoescape", refuse},
    {"include", refuse},
    {"import", refuse},
    {"from", refuse},
    {"extends", refuse},
};

static struct jinja_node *statement(struct jinja_parser *p)
{
    struct jinja_token at = p->token;
    if (at.type != TOKEN_NAME)
        return parser_fail(p, &at, "tag name expected"), NULL;
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (!parser_is_name(&at, tags[i].name))
            continue;
        p->tags[p->n_tags].name = at.text;
        p->tags[p->n_tags++].n = at.n;
        struct jinja_node *node = parser_next(p) ? tags[i].parse(p, &at) : NULL;
        p->n_tags--;
        return node;
    }
    fail_tag(p, &at);
    return NULL;
}

bool jinja_parse(struct jinja_compile *c, const char *source, size_t n)
{
    struct jinja_parser *p = jinja_compile_alloc(c, sizeof *p);
    if (!p)
        return false;
    p->compile = c;
    jinja_lexer_init(&p->lexer, c, source, n);
    c->out->body = parser_next(p) ? pieces(p, NULL) : NULL;
    return c->out->body != NULL;
}
