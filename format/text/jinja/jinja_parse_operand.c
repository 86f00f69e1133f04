/* What operators stand between: constants, names, collections, with their calls, subscripts,
 * filters and tests. */
#include "jinja_parser.h"

#include <string.h>

/* ---- what stands alone ---- */

static struct jinja_node *node_const(struct jinja_parser *p, const struct jinja_token *at,
                                     struct jinja_value value)
{
    struct jinja_node *node = node_new(p, NODE_CONST, at, 0);
    if (node)
        node->value = value;
    return node;
}

bool parse_constant(const struct jinja_token *t, struct jinja_value *value)
{
    *value = jinja_none();
    if (parser_is_name(t, "none") || parser_is_name(t, "None"))
        return true;
    *value = jinja_bool(parser_is_name(t, "true") || parser_is_name(t, "True"));
    return value->boolean || parser_is_name(t, "false") || parser_is_name(t, "False");
}

static struct jinja_node *name_or_constant(struct jinja_parser *p, bool with_namespace)
{
    struct jinja_token at = p->token;
    struct jinja_value value;
    if (!parser_next(p))
        return NULL;
    if (parse_constant(&at, &value))
        return node_const(p, &at, value);
    bool dotted = with_namespace && p->token.type == TOKEN_DOT;
    struct jinja_node *node = node_new(p, dotted ? NODE_NSREF : NODE_NAME, &at, 0);
    if (!node || !(node->name = jinja_intern(p->compile, at.text, at.n)) || !dotted)
        return node && node->name ? node : NULL;
    struct jinja_token attribute;
    struct jinja_name *name;
    if (!parser_next(p) || !parser_expect(p, TOKEN_NAME, &attribute) ||
        !(name = jinja_intern(p->compile, attribute.text, attribute.n)))
        return NULL;
    node->value = (struct jinja_value){.kind = JINJA_STRING, .string = &name->text};
    return node;
}

/* "a" "b" is one string. */
static struct jinja_node *strings(struct jinja_parser *p)
{
    struct jinja_token at = p->token;
    for (;;) {
        if (!parser_next(p))
            return NULL;
        if (p->token.type != TOKEN_STRING)
            return node_const(p, &at, at.value);
        const struct jinja_string *a = at.value.string, *b = p->token.value.string;
        struct jinja_string *sum = jinja_compile_alloc(p->compile, sizeof *sum + a->n + b->n + 1);
        if (!sum)
            return NULL;
        memcpy(sum + 1, a->bytes, a->n);
        memcpy((char *)(sum + 1) + a->n, b->bytes, b->n);
        *sum = (struct jinja_string){
            .bytes = (char *)(sum + 1), .n = a->n + b->n, .n_chars = a->n_chars + b->n_chars};
        at.value.string = sum;
    }
}

/* [a, b] or {a: b}; a comma may follow the last. */
static struct jinja_node *collection(struct jinja_parser *p)
{
    struct jinja_token at = p->token;
    bool dict = at.type == TOKEN_LBRACE;
    enum jinja_token_type end = dict ? TOKEN_RBRACE : TOKEN_RBRACKET;
    struct node_list list = {0};
    if (!parser_next(p))
        return NULL;
    while (p->token.type != end) {
        if (list.count && !parser_expect(p, TOKEN_COMMA, NULL))
            return NULL;
        if (p->token.type == end)
            break;
        if (!node_list_add(p, &list, parse_expression(p, true)))
            return NULL;
        if (dict && (!parser_expect(p, TOKEN_COLON, NULL) ||
                     !node_list_add(p, &list, parse_expression(p, true))))
            return NULL;
    }
    return parser_next(p) ? node_of_list(p, dict ? NODE_DICT : NODE_LIST, &at, &list) : NULL;
}

struct jinja_node *parse_primary(struct jinja_parser *p, bool with_namespace)
{
    struct jinja_token at = p->token;
    struct jinja_node *node;
    size_t n;
    switch (at.type) {
    case TOKEN_NAME:
        return name_or_constant(p, with_namespace);
    case TOKEN_STRING:
        return strings(p);
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
        return parser_next(p) ? node_const(p, &at, at.value) : NULL;
    case TOKEN_LPAREN:
        node = parser_next(p) ? parse_tuple(p, &(struct tuple_rules){.explicit_parentheses = true})
                              : NULL;
        return node && parser_expect(p, TOKEN_RPAREN, NULL) ? node : NULL;
    case TOKEN_LBRACKET:
    case TOKEN_LBRACE:
        return collection(p);
    default: {
        const char *text = jinja_token_text(&at, &n);
        parser_fail(p, &at, "unexpected '%.*s'", (int)n, text);
        return NULL;
    }
    }
}

/* ---- calls, subscripts, filters, tests ---- */

static bool add_keyword(struct jinja_parser *p, struct node_list *list)
{
    struct jinja_token at = p->token;
    struct jinja_name *name = jinja_intern(p->compile, at.text, at.n);
    if (!name || !parser_next(p) || !parser_next(p))
        return false;
    for (size_t i = 1; i < list->count; i++)
        if (list->items[i]->kind == NODE_KEYWORD && list->items[i]->name == name)
            return jinja_compile_fail(p->compile, JINJA_SYNTAX, at.line, at.column, "SyntaxError",
                                      "keyword argument repeated: %.*s", (int)at.n, at.text);
    struct jinja_node *node = node_one(p, NODE_KEYWORD, &at, parse_expression(p, true));
    if (node)
        node->name = name;
    return node_list_add(p, list, node);
}

struct argument_state {
    bool any_keyword, any_args;
};

static bool add_argument(struct jinja_parser *p, struct node_list *list, struct argument_state *s,
                         const struct jinja_token *open)
{
    struct jinja_token at = p->token;
    const struct jinja_token *next = &at;
    bool star = at.type == TOKEN_MUL;
    if (at.type == TOKEN_POW)
        return parser_refuse(p, &at, "an argument with '**'");
    if (at.type == TOKEN_NAME && !parser_look(p, &next))
        return false;
    bool keyword = at.type == TOKEN_NAME && next->type == TOKEN_ASSIGN;
    if (!keyword && (s->any_args || (s->any_keyword && !star)))
        return parser_fail(p, open, "invalid syntax for function call expression");
    s->any_keyword |= keyword;
    s->any_args |= star;
    if (keyword)
        return add_keyword(p, list);
    if (!star)
        return node_list_add(p, list, parse_expression(p, true));
    return parser_next(p) &&
           node_list_add(p, list, node_one(p, NODE_DYN_ARGS, &at, parse_expression(p, true)));
}

/* "(a, *b, c=d)" onto the list. */
static bool arguments(struct jinja_parser *p, struct node_list *list)
{
    struct jinja_token open;
    struct argument_state state = {0};
    if (!parser_expect(p, TOKEN_LPAREN, &open))
        return false;
    for (bool first = true; p->token.type != TOKEN_RPAREN; first = false) {
        if (!first && !parser_expect(p, TOKEN_COMMA, NULL))
            return false;
        if (!first && p->token.type == TOKEN_RPAREN)
            break;
        if (!add_argument(p, list, &state, &open))
            return false;
    }
    return parser_next(p);
}

static struct jinja_node *call(struct jinja_parser *p, struct jinja_node *callee)
{
    struct jinja_token at = p->token;
    struct node_list list = {0};
    if (callee->kind == NODE_GETATTR) {
        const struct jinja_string *name = callee->value.string;
        if (jinja_refused_method(name->bytes, name->n))
            return parser_refuse(p, &at, "the method '%s'", name->bytes), NULL;
    }
    if (!node_list_add(p, &list, callee) || !arguments(p, &list))
        return NULL;
    return node_of_list(p, NODE_CALL, &at, &list);
}

static bool slice_part(struct jinja_parser *p, struct jinja_node **part)
{
    enum jinja_token_type type = p->token.type;
    if (type == TOKEN_COLON || type == TOKEN_RBRACKET || type == TOKEN_COMMA)
        return true;
    *part = parse_expression(p, true);
    return *part != NULL;
}

static struct jinja_node *subscribed(struct jinja_parser *p)
{
    struct jinja_token at = p->token;
    struct jinja_node *start = NULL;
    if (at.type != TOKEN_COLON) {
        start = parse_expression(p, true);
        if (!start || p->token.type != TOKEN_COLON)
            return start;
    }
    struct jinja_node *slice = node_new(p, NODE_SLICE, &at, 3);
    bool more;
    if (!slice || !parser_next(p) || !slice_part(p, &slice->kids[1]) ||
        !parser_skip(p, TOKEN_COLON, &more) || (more && !slice_part(p, &slice->kids[2])))
        return NULL;
    slice->kids[0] = start;
    return node_done(p, slice);
}

static struct jinja_node *brackets(struct jinja_parser *p, struct jinja_node *object)
{
    struct jinja_token at = p->token;
    struct jinja_node *index = NULL;
    if (!parser_next(p) || (p->token.type != TOKEN_RBRACKET && !(index = subscribed(p))))
        return NULL;
    if (!index || p->token.type == TOKEN_COMMA)
        return parser_refuse(p, &p->token, "a subscript of none or several"), NULL;
    if (p->token.type != TOKEN_RBRACKET)
        return parser_expect(p, TOKEN_COMMA, NULL), NULL;
    return parser_next(p) ? node_two(p, NODE_GETITEM, &at, object, index) : NULL;
}

static struct jinja_node *attribute(struct jinja_parser *p, struct jinja_node *object)
{
    struct jinja_token at = p->token;
    if (!parser_next(p))
        return NULL;
    struct jinja_token name = p->token;
    if (!parser_next(p))
        return NULL;
    if (name.type == TOKEN_INTEGER)
        return node_two(p, NODE_GETITEM, &at, object, node_const(p, &name, name.value));
    if (name.type != TOKEN_NAME) {
        parser_fail(p, &name, "expected name or number");
        return NULL;
    }
    struct jinja_name *interned = jinja_intern(p->compile, name.text, name.n);
    struct jinja_node *node = interned ? node_one(p, NODE_GETATTR, &at, object) : NULL;
    if (node)
        node->value = (struct jinja_value){.kind = JINJA_STRING, .string = &interned->text};
    return node;
}

static struct jinja_node *postfix(struct jinja_parser *p, struct jinja_node *node)
{
    while (node) {
        if (p->token.type == TOKEN_DOT)
            node = attribute(p, node);
        else if (p->token.type == TOKEN_LBRACKET)
            node = brackets(p, node);
        else if (p->token.type == TOKEN_LPAREN)
            node = call(p, node);
        else
            break;
    }
    return node;
}

/* name.name.name of a filter or test */
static struct jinja_name *dotted_name(struct jinja_parser *p)
{
    char text[256];
    for (size_t n = 0;;) {
        struct jinja_token part;
        if (!parser_expect(p, TOKEN_NAME, &part))
            return NULL;
        if (n + part.n + 1 > sizeof text)
            return parser_fail(p, &part, "a name of more than %zu bytes", sizeof text), NULL;
        memcpy(text + n, part.text, part.n);
        n += part.n;
        if (p->token.type != TOKEN_DOT)
            return jinja_intern(p->compile, text, n);
        text[n++] = '.';
        if (!parser_next(p))
            return NULL;
    }
}

static struct jinja_node *one_filter(struct jinja_parser *p, struct jinja_node *operand)
{
    struct jinja_token at = p->token;
    struct jinja_name *name = dotted_name(p);
    struct node_list list = {0};
    if (!name || (operand && !node_list_add(p, &list, operand)))
        return NULL;
    if (!operand && !node_list_add(p, &list, node_new(p, NODE_BODY, &at, 0)))
        return NULL;
    if (p->token.type == TOKEN_LPAREN && !arguments(p, &list))
        return NULL;
    struct jinja_node *node = node_of_list(p, NODE_FILTER, &at, &list);
    if (!node)
        return NULL;
    if (!operand)
        node->kids[0] = NULL;
    node->name = name;
    node->builtin = jinja_find_filter(name->text.bytes, name->text.n);
    if (!node->builtin && jinja_refused_filter(name->text.bytes, name->text.n))
        return parser_refuse(p, &at, "the filter '%s'", name->text.bytes), NULL;
    return node;
}

struct jinja_node *parse_filter(struct jinja_parser *p, struct jinja_node *operand,
                                bool inline_start)
{
    while (inline_start || p->token.type == TOKEN_PIPE) {
        if (!inline_start && !parser_next(p))
            return NULL;
        operand = one_filter(p, operand);
        if (!operand)
            return NULL;
        inline_start = false;
    }
    return operand;
}

/* May the token begin the argument of a test without parentheses? */
static bool begins_argument(const struct jinja_token *t)
{
    if (t->type == TOKEN_NAME)
        return !parser_is_name(t, "else") && !parser_is_name(t, "or") && !parser_is_name(t, "and");
    return t->type == TOKEN_STRING || t->type == TOKEN_INTEGER || t->type == TOKEN_FLOAT ||
           t->type == TOKEN_LBRACKET || t->type == TOKEN_LBRACE;
}

static bool test_arguments(struct jinja_parser *p, struct node_list *list)
{
    if (p->token.type == TOKEN_LPAREN)
        return arguments(p, list);
    if (!begins_argument(&p->token))
        return true;
    if (parser_is_name(&p->token, "is"))
        return parser_fail(p, &p->token, "You cannot chain multiple tests with is");
    return node_list_add(p, list, postfix(p, parse_primary(p, false)));
}

static struct jinja_node *test(struct jinja_parser *p, struct jinja_node *operand)
{
    struct jinja_token at = p->token;
    struct node_list list = {0};
    bool negated;
    struct jinja_name *name;
    if (!parser_next(p) || !parser_skip_name(p, "not", &negated) || !(name = dotted_name(p)) ||
        !node_list_add(p, &list, operand) || !test_arguments(p, &list))
        return NULL;
    struct jinja_node *node = node_of_list(p, NODE_TEST, &at, &list);
    if (!node)
        return NULL;
    node->name = name;
    node->builtin = jinja_find_test(name->text.bytes, name->text.n);
    if (!node->builtin && jinja_refused_test(name->text.bytes, name->text.n))
        return parser_refuse(p, &at, "the test '%s'", name->text.bytes), NULL;
    return negated ? node_one(p, NODE_NOT, &at, node) : node;
}

static struct jinja_node *filters_and_tests(struct jinja_parser *p, struct jinja_node *node)
{
    while (node) {
        if (p->token.type == TOKEN_PIPE)
            node = parse_filter(p, node, false);
        else if (parser_is_name(&p->token, "is"))
            node = test(p, node);
        else if (p->token.type == TOKEN_LPAREN)
            node = call(p, node);
        else
            break;
    }
    return node;
}

struct jinja_node *parse_unary(struct jinja_parser *p, bool with_filter)
{
    struct jinja_token at = p->token;
    struct jinja_node *node;
    if (at.type == TOKEN_SUB || at.type == TOKEN_ADD) {
        if (!parser_next(p) || !parser_enter(p))
            return NULL;
        node = node_one(p, at.type == TOKEN_SUB ? NODE_NEG : NODE_POS, &at, parse_unary(p, false));
        parser_leave(p);
    } else {
        node = parse_primary(p, false);
    }
    node = postfix(p, node);
    return with_filter ? filters_and_tests(p, node) : node;
}
