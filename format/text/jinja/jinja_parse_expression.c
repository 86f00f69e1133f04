/* Expressions, by recursive descent, in jinja2's precedence: condexpr, or, and, not, comparison,
 * + -, ~, * / // %, **, and then what jinja_parse_operand.c reads; tuples, targets. */
#include "jinja_parser.h"

/* ---- operators ---- */

static const struct {
    enum jinja_token_type token;
    enum jinja_operator op;
    int level;
} operators[] = {
    {TOKEN_EQ, JINJA_EQ, 0},   {TOKEN_NE, JINJA_NE, 0},   {TOKEN_LT, JINJA_LT, 0},
    {TOKEN_LTEQ, JINJA_LE, 0}, {TOKEN_GT, JINJA_GT, 0},   {TOKEN_GTEQ, JINJA_GE, 0},
    {TOKEN_ADD, JINJA_ADD, 1}, {TOKEN_SUB, JINJA_SUB, 1}, {TOKEN_MUL, JINJA_MUL, 3},
    {TOKEN_DIV, JINJA_DIV, 3}, {TOKEN_MOD, JINJA_MOD, 3}, {TOKEN_FLOORDIV, JINJA_FLOOR_DIV, 3},
    {TOKEN_POW, JINJA_POW, 4},
};

static bool is_operator(enum jinja_token_type type, int level, enum jinja_operator *op)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (operators[i].token == type && operators[i].level == level) {
            *op = operators[i].op;
            return true;
        }
    return false;
}

static struct jinja_node *concat(struct jinja_parser *p);

/* Levels: 1 is + -, 2 is ~, 3 is * / // %, 4 is **, 5 unary. All are left-associative. */
static struct jinja_node *math(struct jinja_parser *p, int level)
{
    if (level == 2)
        return concat(p);
    if (level == 5)
        return parse_unary(p, true);
    struct jinja_token at = p->token;
    struct jinja_node *left = math(p, level + 1);
    enum jinja_operator op;
    while (left && is_operator(p->token.type, level, &op)) {
        if (op == JINJA_MOD && left->kind == NODE_CONST && left->value.kind == JINJA_STRING)
            return parser_refuse(p, &p->token, "formatting with %% and a string"), NULL;
        if (!parser_next(p))
            return NULL;
        left = node_two(p, NODE_BINARY, &at, left, math(p, level + 1));
        if (left)
            left->op = op;
        at = p->token;
    }
    return left;
}

static struct jinja_node *concat(struct jinja_parser *p)
{
    struct jinja_token at = p->token;
    struct node_list list = {0};
    if (!node_list_add(p, &list, math(p, 3)))
        return NULL;
    while (p->token.type == TOKEN_TILDE)
        if (!parser_next(p) || !node_list_add(p, &list, math(p, 3)))
            return NULL;
    return list.count == 1 ? list.items[0] : node_of_list(p, NODE_CONCAT, &at, &list);
}

/* *found: the operator, which is left. */
static bool comparison_operator(struct jinja_parser *p, enum jinja_operator *op, bool *found)
{
    const struct jinja_token *next;
    *found = is_operator(p->token.type, 0, op);
    if (*found)
        return parser_next(p);
    *op = JINJA_IN;
    if (!parser_skip_name(p, "in", found))
        return false;
    if (*found || !parser_is_name(&p->token, "not"))
        return true;
    if (!parser_look(p, &next))
        return false;
    *op = JINJA_NOT_IN;
    *found = parser_is_name(next, "in");
    return !*found || (parser_next(p) && parser_next(p));
}

static struct jinja_node *compare(struct jinja_parser *p)
{
    struct jinja_token at = p->token;
    struct node_list list = {0};
    if (!node_list_add(p, &list, math(p, 1)))
        return NULL;
    for (;;) {
        enum jinja_operator op;
        bool found;
        struct jinja_token place = p->token;
        if (!comparison_operator(p, &op, &found))
            return NULL;
        if (!found)
            return list.count == 1 ? list.items[0] : node_of_list(p, NODE_COMPARE, &at, &list);
        struct jinja_node *operand = node_one(p, NODE_OPERAND, &place, math(p, 1));
        if (!node_list_add(p, &list, operand))
            return NULL;
        operand->op = op;
    }
}

static struct jinja_node *negation(struct jinja_parser *p)
{
    struct jinja_token at = p->token;
    if (!parser_is_name(&at, "not"))
        return compare(p);
    if (!parser_next(p) || !parser_enter(p))
        return NULL;
    struct jinja_node *node = node_one(p, NODE_NOT, &at, negation(p));
    parser_leave(p);
    return node;
}

/* NODE_OR of NODE_ANDs of negations */
static struct jinja_node *logic(struct jinja_parser *p, enum jinja_node_kind kind)
{
    bool is_or = kind == NODE_OR;
    struct jinja_token at = p->token;
    struct jinja_node *left = is_or ? logic(p, NODE_AND) : negation(p);
    while (left && parser_is_name(&p->token, is_or ? "or" : "and")) {
        if (!parser_next(p))
            return NULL;
        left = node_two(p, kind, &at, left, is_or ? logic(p, NODE_AND) : negation(p));
        at = p->token;
    }
    return left;
}

static struct jinja_node *condition(struct jinja_parser *p)
{
    struct jinja_token at = p->token;
    struct jinja_node *value = logic(p, NODE_OR);
    while (value && parser_is_name(&p->token, "if")) {
        struct jinja_node *node =
            parser_next(p) ? node_new(p, NODE_CONDEXPR, &at, COND_KIDS) : NULL;
        bool found;
        if (!node || !(node->kids[COND_TEST] = logic(p, NODE_OR)) ||
            !parser_skip_name(p, "else", &found))
            return NULL;
        node->kids[COND_THEN] = value;
        if (found) {
            if (!parser_enter(p) || !(node->kids[COND_ELSE] = condition(p)))
                return NULL;
            parser_leave(p);
        }
        value = node_done(p, node);
        at = p->token;
    }
    return value;
}

struct jinja_node *parse_expression(struct jinja_parser *p, bool with_condexpr)
{
    if (!parser_enter(p))
        return NULL;
    struct jinja_node *node = with_condexpr ? condition(p) : logic(p, NODE_OR);
    parser_leave(p);
    return node;
}

/* ---- tuples ---- */

static bool is_tuple_end(const struct jinja_parser *p, const char *end)
{
    enum jinja_token_type type = p->token.type;
    return type == TOKEN_VARIABLE_END || type == TOKEN_BLOCK_END || type == TOKEN_RPAREN ||
           (end && parser_is_name(&p->token, end));
}

struct jinja_node *parse_tuple(struct jinja_parser *p, const struct tuple_rules *rules)
{
    struct jinja_token at = p->token;
    struct node_list list = {0};
    bool is_tuple = false;
    for (;;) {
        if (list.count && !parser_expect(p, TOKEN_COMMA, NULL))
            return NULL;
        if (is_tuple_end(p, rules->end))
            break;
        struct jinja_node *node = rules->simplified ? parse_primary(p, rules->with_namespace)
                                                    : parse_expression(p, !rules->without_condexpr);
        if (!node_list_add(p, &list, node))
            return NULL;
        if (p->token.type != TOKEN_COMMA)
            break;
        is_tuple = true;
    }
    if (!is_tuple && list.count)
        return list.items[0];
    if (!is_tuple && !rules->explicit_parentheses) {
        size_t n;
        const char *text = jinja_token_text(&p->token, &n);
        parser_fail(p, &p->token, "Expected an expression, got '%.*s'", (int)n, text);
        return NULL;
    }
    return node_of_list(p, NODE_TUPLE, &at, &list);
}

/* ---- what may be assigned to ---- */

static const char *kind_text(const struct jinja_node *node)
{
    static const char *const binary[] = {"add", "sub", "mul", "div", "floordiv", "mod", "pow"};
    static const char *const kinds[] = {
        [NODE_CONST] = "const",     [NODE_NAME] = "name",       [NODE_TUPLE] = "tuple",
        [NODE_LIST] = "list",       [NODE_DICT] = "dict",       [NODE_CONDEXPR] = "condexpr",
        [NODE_OR] = "or",           [NODE_AND] = "and",         [NODE_NOT] = "not",
        [NODE_NEG] = "neg",         [NODE_POS] = "pos",         [NODE_CONCAT] = "concat",
        [NODE_COMPARE] = "compare", [NODE_GETATTR] = "getattr", [NODE_GETITEM] = "getitem",
        [NODE_CALL] = "call",       [NODE_FILTER] = "filter",   [NODE_TEST] = "test",
    };
    return node->kind == NODE_BINARY ? binary[node->op] : kinds[node->kind];
}

static bool set_use(struct jinja_node *node, enum jinja_name_use use)
{
    if (node->kind == NODE_NAME)
        node->use = use;
    else if (node->kind == NODE_NSREF)
        return true;
    else if (node->kind != NODE_TUPLE)
        return false;
    for (size_t i = 0; i < node->n_kids; i++)
        if (!set_use(node->kids[i], use))
            return false;
    return true;
}

struct jinja_node *parse_target(struct jinja_parser *p, enum jinja_name_use use, const char *end,
                                bool with_namespace)
{
    struct jinja_token at = p->token;
    struct jinja_node *node = parse_tuple(
        p, &(struct tuple_rules){.simplified = true, .with_namespace = with_namespace, .end = end});
    if (node && !set_use(node, use)) {
        parser_fail(p, &at, "can't assign to '%s'", kind_text(node));
        return NULL;
    }
    return node;
}

struct jinja_node *parse_target_name(struct jinja_parser *p, enum jinja_name_use use)
{
    struct jinja_token at;
    struct jinja_value value;
    if (!parser_expect(p, TOKEN_NAME, &at))
        return NULL;
    if (parse_constant(&at, &value)) {
        parser_fail(p, &at, "can't assign to 'name'");
        return NULL;
    }
    struct jinja_node *node = node_new(p, NODE_NAME, &at, 0);
    if (!node || !(node->name = jinja_intern(p->compile, at.text, at.n)))
        return NULL;
    node->use = use;
    return node;
}
