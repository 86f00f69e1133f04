/* Expressions, by recursive descent, in jinja2's precedence: condexpr, or, and, not, comparison,
 * + -, ~, * / // %, **, unary, postfix, filters and tests. */
#include "jinja_parser.h"

#include "jinja_literal.h"
#include <string.h>

static struct jinja_node *unary(struct jinja_parser *p, bool with_filter);

static struct jinja_node *node_two(struct jinja_parser *p, enum jinja_node_kind kind,
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

static struct jinja_node *node_one(struct jinja_parser *p, enum jinja_node_kind kind,
                                   const struct jinja_token *at, struct jinja_node *kid)
{
    struct jinja_node *node = kid ? node_new(p, kind, at, 1) : NULL;
    if (!node)
        return NULL;
    node->kids[0] = kid;
    return node_done(p, node);
}

static struct jinja_node *node_const(struct jinja_parser *p, const struct jinja_token *at,
                                     struct jinja_value value)
{
    struct jinja_node *node = node_new(p, NODE_CONST, at, 0);
    if (node)
        node->value = value;
    return node;
}

/* ---- binary operators ---- */

static const struct {
    enum jinja_token_type token;
    enum jinja_operator op;
    int level;
} binary_operators[] = {
    {TOKEN_ADD, JINJA_ADD, 1},
    {TOKEN_SUB, JINJA_SUB, 1},
    {TOKEN_MUL, JINJA_MUL, 3},
    {TOKEN_DIV, JINJA_DIV, 3},
    {TOKEN_FLOORDIV, JINJA_FLOOR_DIV, 3},
    {TOKEN_MOD, JINJA_MOD, 3},
    {TOKEN_POW, JINJA_POW, 4},
};

static bool is_binary(enum jinja_token_type type, int level, enum jinja_operator *op)
{
    for (size_t i = 0; i < sizeof binary_operators / sizeof *binary_operators; i++)
        if (binary_operators[i].token == type && binary_operators[i].level == level) {
            *op = binary_operators[i].op;
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
        return unary(p, true);
    struct jinja_token at = p->token;
    struct jinja_node *left = math(p, level + 1);
    enum jinja_operator op;
    while (left && is_binary(p->token.type, level, &op)) {
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

static bool is_comparison(enum jinja_token_type type, enum jinja_operator *op)
{
    static const struct {
        enum jinja_token_type token;
        enum jinja_operator op;
    } comparisons[] = {{TOKEN_EQ, JINJA_EQ},   {TOKEN_NE, JINJA_NE}, {TOKEN_LT, JINJA_LT},
                       {TOKEN_LTEQ, JINJA_LE}, {TOKEN_GT, JINJA_GT}, {TOKEN_GTEQ, JINJA_GE}};
    for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++)
        if (comparisons[i].token == type) {
            *op = comparisons[i].op;
            return true;
        }
    return false;
}

/* *found: the operator, which is left. */
static bool comparison_operator(struct jinja_parser *p, enum jinja_operator *op, bool *found)
{
    *found = is_comparison(p->token.type, op);
    if (*found)
        return parser_next(p);
    *op = JINJA_IN;
    if (!parser_skip_name(p, "in", found))
        return false;
    if (*found)
        return true;
    const struct jinja_token *next;
    if (!parser_is_name(&p->token, "not"))
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

static struct jinja_node *conjunction(struct jinja_parser *p)
{
    struct jinja_token at = p->token;
    struct jinja_node *left = negation(p);
    while (left && parser_is_name(&p->token, "and")) {
        if (!parser_next(p))
            return NULL;
        left = node_two(p, NODE_AND, &at, left, negation(p));
        at = p->token;
    }
    return left;
}

static struct jinja_node *disjunction(struct jinja_parser *p)
{
    struct jinja_token at = p->token;
    struct jinja_node *left = conjunction(p);
    while (left && parser_is_name(&p->token, "or")) {
        if (!parser_next(p))
            return NULL;
        left = node_two(p, NODE_OR, &at, left, conjunction(p));
        at = p->token;
    }
    return left;
}

static struct jinja_node *condition(struct jinja_parser *p)
{
    struct jinja_token at = p->token;
    struct jinja_node *value = disjunction(p);
    while (value && parser_is_name(&p->token, "if")) {
        struct jinja_node *node =
            parser_next(p) ? node_new(p, NODE_CONDEXPR, &at, COND_KIDS) : NULL;
        bool found;
        if (!node || !(node->kids[COND_TEST] = disjunction(p)) ||
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
    struct jinja_node *node = with_condexpr ? condition(p) : disjunction(p);
    parser_leave(p);
    return node;
}

/* ---- what stands alone ---- */

static bool constant_of(const struct jinja_token *t, struct jinja_value *value)
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
    if (constant_of(&at, &value))
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
    const struct jinja_string *all = at.value.string;
    if (!parser_next(p))
        return NULL;
    for (; p->token.type == TOKEN_STRING;) {
        const struct jinja_string *more = p->token.value.string;
        struct jinja_string *sum = jinja_compile_alloc(p->compile, sizeof *sum);
        char *bytes = sum ? jinja_compile_alloc(p->compile, all->n + more->n + 1) : NULL;
        if (!bytes)
            return NULL;
        memcpy(bytes, all->bytes, all->n);
        memcpy(bytes + all->n, more->bytes, more->n);
        *sum = (struct jinja_string){
            .bytes = bytes, .n = all->n + more->n, .n_chars = all->n_chars + more->n_chars};
        all = sum;
        if (!parser_next(p))
            return NULL;
    }
    return node_const(p, &at, (struct jinja_value){.kind = JINJA_STRING, .string = all});
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

static struct jinja_node *primary(struct jinja_parser *p, bool with_namespace)
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
        struct jinja_node *node = rules->simplified ? primary(p, rules->with_namespace)
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
    bool any_keyword, any_args, any_kwargs;
};

static bool add_argument(struct jinja_parser *p, struct node_list *list, struct argument_state *s,
                         const struct jinja_token *open)
{
    struct jinja_token at = p->token;
    const struct jinja_token *next = &at;
    bool star = at.type == TOKEN_MUL, stars = at.type == TOKEN_POW;
    if (at.type == TOKEN_NAME && !parser_look(p, &next))
        return false;
    bool keyword = at.type == TOKEN_NAME && next->type == TOKEN_ASSIGN;
    if (s->any_kwargs || (s->any_args && !stars && !keyword) ||
        (s->any_keyword && !star && !stars && !keyword))
        return parser_fail(p, open, "invalid syntax for function call expression");
    if (keyword) {
        s->any_keyword = true;
        return add_keyword(p, list);
    }
    if (!star && !stars)
        return node_list_add(p, list, parse_expression(p, true));
    s->any_args |= star;
    s->any_kwargs = stars;
    return parser_next(p) && node_list_add(p, list,
                                           node_one(p, star ? NODE_DYN_ARGS : NODE_DYN_KWARGS, &at,
                                                    parse_expression(p, true)));
}

/* "(a, b=c, *d, **e)" onto the list. */
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
    struct node_list list = {0};
    if (!parser_next(p))
        return NULL;
    while (p->token.type != TOKEN_RBRACKET)
        if ((list.count && !parser_expect(p, TOKEN_COMMA, NULL)) ||
            !node_list_add(p, &list, subscribed(p)))
            return NULL;
    if (!parser_next(p))
        return NULL;
    return node_two(p, NODE_GETITEM, &at, object,
                    list.count == 1 ? list.items[0] : node_of_list(p, NODE_TUPLE, &at, &list));
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
    size_t n = 0;
    for (;;) {
        struct jinja_token part;
        if (!parser_expect(p, TOKEN_NAME, &part))
            return NULL;
        if (n + part.n + 1 > sizeof text) {
            parser_fail(p, &part, "a name of more than %zu bytes", sizeof text);
            return NULL;
        }
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
    node->function = jinja_find_filter(name->text.bytes, name->text.n);
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
    switch (t->type) {
    case TOKEN_NAME:
        return !parser_is_name(t, "else") && !parser_is_name(t, "or") && !parser_is_name(t, "and");
    case TOKEN_STRING:
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
    case TOKEN_LBRACKET:
    case TOKEN_LBRACE:
        return true;
    default:
        return false;
    }
}

static bool test_arguments(struct jinja_parser *p, struct node_list *list)
{
    if (p->token.type == TOKEN_LPAREN)
        return arguments(p, list);
    if (!begins_argument(&p->token))
        return true;
    if (parser_is_name(&p->token, "is"))
        return parser_fail(p, &p->token, "You cannot chain multiple tests with is");
    return node_list_add(p, list, postfix(p, primary(p, false)));
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
    node->function = jinja_find_test(name->text.bytes, name->text.n);
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

static struct jinja_node *unary(struct jinja_parser *p, bool with_filter)
{
    struct jinja_token at = p->token;
    struct jinja_node *node;
    if (at.type == TOKEN_SUB || at.type == TOKEN_ADD) {
        if (!parser_next(p) || !parser_enter(p))
            return NULL;
        node = node_one(p, at.type == TOKEN_SUB ? NODE_NEG : NODE_POS, &at, unary(p, false));
        parser_leave(p);
    } else {
        node = primary(p, false);
    }
    node = postfix(p, node);
    return with_filter ? filters_and_tests(p, node) : node;
}

/* ---- what may be assigned to ---- */

static const char *kind_text(const struct jinja_node *node)
{
    switch (node->kind) {
    case NODE_CONST:
        return "const";
    case NODE_NAME:
        return "name";
    case NODE_TUPLE:
        return "tuple";
    case NODE_LIST:
        return "list";
    case NODE_DICT:
        return "dict";
    case NODE_CONDEXPR:
        return "condexpr";
    case NODE_OR:
        return "or";
    case NODE_AND:
        return "and";
    case NODE_NOT:
        return "not";
    case NODE_NEG:
        return "neg";
    case NODE_POS:
        return "pos";
    case NODE_CONCAT:
        return "concat";
    case NODE_COMPARE:
        return "compare";
    case NODE_GETATTR:
        return "getattr";
    case NODE_GETITEM:
        return "getitem";
    case NODE_CALL:
        return "call";
    case NODE_FILTER:
        return "filter";
    case NODE_TEST:
        return "test";
    case NODE_BINARY: {
        static const char *const names[] = {"add", "sub", "mul", "div", "floordiv", "mod", "pow"};
        return names[node->op];
    }
    default:
        return "expression";
    }
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
    if (constant_of(&at, &value)) {
        parser_fail(p, &at, "can't assign to 'name'");
        return NULL;
    }
    struct jinja_node *node = node_new(p, NODE_NAME, &at, 0);
    if (!node || !(node->name = jinja_intern(p->compile, at.text, at.n)))
        return NULL;
    node->use = use;
    return node;
}
