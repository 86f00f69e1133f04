/* Where every name lives. jinja2 compiles a template to Python functions, whose local variables are
 * the template's: which scope a name belongs to is decided by what stands in the whole scope, and
 * a scope's variables get their first values when it is entered. This is that decision, scope by
 * scope: first all names of a scope are seen (see_*), then its nodes are bound (bind_*).
 */
#include "jinja_ast.h"

#include <string.h>

/* Variables of one function have slots; scopes inside it share them. */
struct function {
    struct function *outer;
    uint32_t level;
    uint32_t n_slots;
};

struct symbol_scope;
struct jinja_symbol {
    struct jinja_name *name;
    struct symbol_scope *scope;
    struct jinja_symbol *hidden;             /* of the same name, in an outer scope */
    struct jinja_symbol *next, *next_stored; /* of the same scope */
    struct function *function;
    uint32_t slot;
    enum jinja_load load;
    struct jinja_symbol *alias;
    bool stored;
};

struct symbol_scope {
    struct function *function;
    struct jinja_symbol *symbols; /* the last first */
    size_t count;
    struct jinja_symbol *stored; /* a condition's branches are looked at afterwards */
};

/* What binding must know of where it is. */
struct place {
    struct symbol_scope *scope;
    bool soft;      /* under a condition: unknown filters are errors only when called */
    bool breakable; /* a loop to break is around, in the same function */
};

static bool bind(struct jinja_compile *c, struct jinja_node *node, const struct place *at);
static bool see(struct jinja_compile *c, struct symbol_scope *s, const struct jinja_node *node);

static bool fail_assertion(struct jinja_compile *c, const struct jinja_node *at, const char *text,
                           const struct jinja_name *name)
{
    return jinja_compile_fail(c, JINJA_SYNTAX, at->line, at->column, "TemplateAssertionError", text,
                              name ? name->text.bytes : "");
}

/* ---- scopes ---- */

static struct symbol_scope *open_scope(struct jinja_compile *c, struct function *function)
{
    struct symbol_scope *s = jinja_compile_alloc(c, sizeof *s);
    if (s)
        s->function = function;
    return s;
}

static struct jinja_ref ref_from(const struct function *from, const struct jinja_symbol *symbol)
{
    return (struct jinja_ref){from->level - symbol->function->level, symbol->slot};
}

/* The scope is complete: how it begins. Its names are forgotten. */
static bool close_scope(struct jinja_compile *c, struct symbol_scope *s, struct jinja_scope *out)
{
    out->variables = jinja_compile_alloc(c, (s->count + 1) * sizeof *out->variables);
    if (!out->variables)
        return false;
    out->count = s->count;
    size_t i = s->count;
    for (struct jinja_symbol *symbol = s->symbols; symbol; symbol = symbol->next) {
        out->variables[--i] =
            (struct jinja_variable){symbol->name, symbol->slot, symbol->load, {0, 0}};
        if (symbol->load == LOAD_ALIAS)
            out->variables[i].alias = ref_from(s->function, symbol->alias);
        symbol->name->innermost = symbol->hidden;
    }
    return true;
}

static struct jinja_symbol *own(const struct symbol_scope *s, const struct jinja_name *name)
{
    return name->innermost && name->innermost->scope == s ? name->innermost : NULL;
}

static struct jinja_symbol *outer(const struct symbol_scope *s, const struct jinja_name *name)
{
    const struct jinja_symbol *mine = own(s, name);
    return mine ? mine->hidden : name->innermost;
}

static struct jinja_symbol *define(struct jinja_compile *c, struct symbol_scope *s,
                                   struct jinja_name *name, enum jinja_load load)
{
    struct jinja_symbol *symbol = own(s, name);
    if (!symbol) {
        symbol = jinja_compile_alloc(c, sizeof *symbol);
        if (!symbol)
            return NULL;
        *symbol = (struct jinja_symbol){.name = name,
                                        .scope = s,
                                        .next = s->symbols,
                                        .hidden = name->innermost,
                                        .function = s->function,
                                        .slot = s->function->n_slots++};
        name->innermost = s->symbols = symbol;
        s->count++;
    }
    symbol->load = load;
    symbol->alias = NULL;
    return symbol;
}

static struct jinja_symbol *mark_stored(struct symbol_scope *s, struct jinja_symbol *symbol)
{
    if (symbol && !symbol->stored) {
        symbol->stored = true;
        symbol->next_stored = s->stored;
        s->stored = symbol;
    }
    return symbol;
}

static bool see_store(struct jinja_compile *c, struct symbol_scope *s, struct jinja_name *name)
{
    struct jinja_symbol *symbol = own(s, name), *around = outer(s, name);
    if (!symbol) {
        symbol = define(c, s, name, around ? LOAD_ALIAS : LOAD_MISSING);
        if (symbol)
            symbol->alias = around;
    }
    return mark_stored(s, symbol) != NULL;
}

static bool see_load(struct jinja_compile *c, struct symbol_scope *s, struct jinja_name *name)
{
    return name->innermost || define(c, s, name, LOAD_RESOLVE);
}

static struct jinja_symbol *declare(struct jinja_compile *c, struct symbol_scope *s,
                                    struct jinja_name *name)
{
    return mark_stored(s, define(c, s, name, LOAD_PARAMETER));
}

/* ---- seeing the names of a scope ---- */

static bool see_kids(struct jinja_compile *c, struct symbol_scope *s, const struct jinja_node *node)
{
    for (size_t i = 0; i < node->n_kids; i++)
        if (node->kids[i] && !see(c, s, node->kids[i]))
            return false;
    return true;
}

/* What only some branches set begins as it was before. */
static bool see_if(struct jinja_compile *c, struct symbol_scope *s, const struct jinja_node *node)
{
    if (!see(c, s, node->kids[0]))
        return false;
    const struct jinja_symbol *before = s->stored;
    for (size_t i = 1; i < node->n_kids; i++)
        if (!see(c, s, node->kids[i]))
            return false;
    for (struct jinja_symbol *symbol = s->stored; symbol != before; symbol = symbol->next_stored) {
        symbol->alias = outer(s, symbol->name);
        symbol->load = symbol->alias ? LOAD_ALIAS : LOAD_RESOLVE;
    }
    return true;
}

static bool see(struct jinja_compile *c, struct symbol_scope *s, const struct jinja_node *node)
{
    switch (node->kind) {
    case NODE_NAME:
        if (node->use == USE_PARAM)
            return declare(c, s, node->name) != NULL;
        return node->use == USE_STORE ? see_store(c, s, node->name) : see_load(c, s, node->name);
    case NODE_NSREF:
        return see_load(c, s, node->name);
    case NODE_IF:
        return see_if(c, s, node);
    case NODE_MACRO:
        return see_store(c, s, node->name);
    case NODE_FOR:
        return see(c, s, node->kids[FOR_ITER]);
    case NODE_CALL_BLOCK:
        return !node->kids[CALL_CALL] || see(c, s, node->kids[CALL_CALL]);
    case NODE_FILTER_BLOCK:
        return see(c, s, node->kids[1]);
    case NODE_WITH:
        for (size_t i = 1; i < node->n_kids; i += 2)
            if (!see(c, s, node->kids[i]))
                return false;
        return true;
    case NODE_SET:
        return see(c, s, node->kids[1]) && see(c, s, node->kids[0]);
    case NODE_SET_BLOCK:
        return see(c, s, node->kids[0]);
    default:
        return see_kids(c, s, node);
    }
}

/* A loop's target as parameters. */
static bool see_target(struct jinja_compile *c, struct symbol_scope *s,
                       const struct jinja_node *node)
{
    if (node->kind == NODE_NAME)
        return declare(c, s, node->name) != NULL;
    for (size_t i = 0; i < node->n_kids; i++)
        if (!see_target(c, s, node->kids[i]))
            return false;
    return true;
}

/* ---- questions about what stands below a node ---- */

/* Is the name read before something of that name is set? As jinja2's find_undeclared; *known: it
 * has been set. */
static bool reads(const struct jinja_node *node, const char *name, bool *known)
{
    if (*known)
        return false;
    if (node->kind == NODE_NAME && strcmp(node->name->text.bytes, name) == 0) {
        *known = node->use != USE_LOAD;
        return node->use == USE_LOAD;
    }
    for (size_t i = 0; i < node->n_kids; i++)
        if (node->kids[i] && reads(node->kids[i], name, known))
            return true;
    return false;
}

static bool body_reads(const struct jinja_node *body, const char *name)
{
    bool known = false;
    return reads(body, name, &known);
}

static const struct jinja_node *find_loop_store(const struct jinja_node *node)
{
    if (node->kind == NODE_NAME && node->use == USE_STORE &&
        strcmp(node->name->text.bytes, "loop") == 0)
        return node;
    const struct jinja_node *found = NULL;
    for (size_t i = 0; i < node->n_kids && !found; i++)
        found = node->kids[i] ? find_loop_store(node->kids[i]) : NULL;
    return found;
}

/* ---- binding ---- */

static bool bind_kids(struct jinja_compile *c, struct jinja_node *node, const struct place *at)
{
    for (size_t i = 0; i < node->n_kids; i++)
        if (node->kids[i] && !bind(c, node->kids[i], at))
            return false;
    return true;
}

static bool bind_name(struct jinja_compile *c, struct jinja_node *node, const struct place *at)
{
    const struct jinja_symbol *symbol = node->name->innermost;
    if (!symbol)
        return jinja_compile_fail(
            c, JINJA_SYNTAX, node->line, node->column, "AssertionError",
            "Tried to resolve a name to a reference that was unknown to the frame ('%s')",
            node->name->text.bytes);
    node->ref = ref_from(at->scope->function, symbol);
    return true;
}

static bool bind_filter(struct jinja_compile *c, struct jinja_node *node, const struct place *at)
{
    if (!node->builtin && !at->soft)
        return fail_assertion(
            c, node, node->kind == NODE_FILTER ? "No filter named '%s'." : "No test named '%s'.",
            node->name);
    return bind_kids(c, node, at);
}

/* A scope of the node's own in the same function */
static struct symbol_scope *open_inner(struct jinja_compile *c, struct jinja_node *node,
                                       const struct place *at, struct place *inside)
{
    struct symbol_scope *s = open_scope(c, at->scope->function);
    *inside = (struct place){.scope = s, .breakable = at->breakable};
    node->scope = jinja_compile_alloc(c, sizeof *node->scope);
    return node->scope ? s : NULL;
}

static bool bind_filter_block(struct jinja_compile *c, struct jinja_node *node,
                              const struct place *at)
{
    struct place inside;
    struct symbol_scope *s = open_inner(c, node, at, &inside);
    return s && see_kids(c, s, node) && bind_kids(c, node, &inside) &&
           close_scope(c, s, node->scope);
}

static bool bind_with(struct jinja_compile *c, struct jinja_node *node, const struct place *at)
{
    struct place inside;
    struct symbol_scope *s = open_inner(c, node, at, &inside);
    size_t body = node->n_kids - 1;
    for (size_t i = 1; s && i < body; i += 2)
        if (!bind(c, node->kids[i], at))
            return false;
    for (size_t i = 0; i <= body; i += 2)
        if (!s || !see(c, s, node->kids[i]))
            return false;
    for (size_t i = 0; i <= body; i += 2)
        if (!bind(c, node->kids[i], &inside))
            return false;
    return close_scope(c, s, node->scope);
}

static bool bind_set_block(struct jinja_compile *c, struct jinja_node *node, const struct place *at)
{
    struct place inside;
    struct symbol_scope *s = open_inner(c, node, at, &inside);
    return s && bind(c, node->kids[0], at) && see(c, s, node->kids[2]) &&
           bind(c, node->kids[2], &inside) && (!node->kids[1] || bind(c, node->kids[1], &inside)) &&
           close_scope(c, s, node->scope);
}

static struct jinja_node *clone_target(struct jinja_compile *c, const struct jinja_node *node)
{
    struct jinja_node *copy = jinja_compile_alloc(c, sizeof *copy);
    if (!copy)
        return NULL;
    *copy = *node;
    if (node->n_kids)
        copy->kids = jinja_compile_alloc(c, node->n_kids * sizeof(struct jinja_node *));
    for (size_t i = 0; i < node->n_kids; i++)
        if (!copy->kids || !(copy->kids[i] = clone_target(c, node->kids[i])))
            return NULL;
    return copy;
}

static bool bind_loop_test(struct jinja_compile *c, struct jinja_node *node, const struct place *at)
{
    struct jinja_loop_scopes *loop = node->loop;
    struct function function = {at->scope->function, at->scope->function->level + 1, 0};
    struct symbol_scope *s = open_scope(c, &function);
    struct place inside = {.scope = s};
    loop->test_target = clone_target(c, node->kids[FOR_TARGET]);
    bool ok = s && loop->test_target && see_target(c, s, loop->test_target) &&
              see(c, s, node->kids[FOR_TEST]) && bind(c, loop->test_target, &inside) &&
              bind(c, node->kids[FOR_TEST], &inside) && close_scope(c, s, &loop->test);
    loop->test_code.n_slots = function.n_slots;
    return ok;
}

static bool bind_loop_body(struct jinja_compile *c, struct jinja_node *node, const struct place *at)
{
    struct jinja_loop_scopes *loop = node->loop;
    struct symbol_scope *s = open_scope(c, at->scope->function);
    struct place inside = {.scope = s, .breakable = true};
    loop->extended = body_reads(node->kids[FOR_BODY], "loop");
    if (!s)
        return false;
    if (loop->extended) {
        struct jinja_name *name = jinja_intern(c, "loop", 4);
        const struct jinja_symbol *symbol = name ? declare(c, s, name) : NULL;
        if (!symbol)
            return false;
        loop->loop_slot = symbol->slot;
    }
    return see_target(c, s, node->kids[FOR_TARGET]) && see(c, s, node->kids[FOR_BODY]) &&
           bind(c, node->kids[FOR_TARGET], &inside) && bind(c, node->kids[FOR_BODY], &inside) &&
           close_scope(c, s, &loop->body);
}

static bool bind_for(struct jinja_compile *c, struct jinja_node *node, const struct place *at)
{
    node->loop = jinja_compile_alloc(c, sizeof *node->loop);
    if (!node->loop || (node->kids[FOR_TEST] && !bind_loop_test(c, node, at)))
        return false;
    const struct jinja_node *store = find_loop_store(node);
    if (store)
        return fail_assertion(c, store,
                              "Can't assign to special loop variable in for-loop target%s", NULL);
    return bind(c, node->kids[FOR_ITER], at) && bind_loop_body(c, node, at);
}

static bool has_param(const struct jinja_node *node, const char *name)
{
    const struct jinja_node *params = node->kids[MACRO_PARAMS];
    for (size_t i = 0; i < params->n_kids; i++)
        if (strcmp(params->kids[i]->name->text.bytes, name) == 0)
            return true;
    return false;
}

/* caller: a parameter if the body reads it. */
static bool bind_caller(struct jinja_compile *c, struct symbol_scope *s,
                        const struct jinja_node *node)
{
    static const char *const many[] = {"varargs", "kwargs"};
    for (size_t i = 0; i < 2; i++)
        if (!has_param(node, many[i]) && body_reads(node->kids[MACRO_BODY], many[i]))
            return jinja_compile_fail(c, JINJA_SYNTAX, node->line, node->column, NULL,
                                      "'%s' in a macro is not supported", many[i]);
    if (has_param(node, "caller"))
        return jinja_compile_fail(c, JINJA_SYNTAX, node->line, node->column, NULL,
                                  "a parameter named 'caller' is not supported");
    node->macro->takes_caller = body_reads(node->kids[MACRO_BODY], "caller");
    if (!node->macro->takes_caller)
        return true;
    struct jinja_name *name = jinja_intern(c, "caller", 6);
    const struct jinja_symbol *symbol = name ? declare(c, s, name) : NULL;
    if (symbol)
        node->macro->caller_slot = symbol->slot;
    return symbol != NULL;
}

/* MACRO, CALL_BLOCK */
static bool bind_macro(struct jinja_compile *c, struct jinja_node *node, struct function *around)
{
    struct function function = {around, around->level + 1, 0};
    struct symbol_scope *s = open_scope(c, &function);
    struct place inside = {.scope = s};
    node->macro = jinja_compile_alloc(c, sizeof *node->macro);
    if (!s || !node->macro)
        return false;
    for (size_t i = 0; i < MACRO_KIDS; i++)
        if (!see(c, s, node->kids[i]))
            return false;
    if (!bind_caller(c, s, node))
        return false;
    for (size_t i = 0; i < MACRO_KIDS; i++)
        if (!bind(c, node->kids[i], &inside))
            return false;
    node->macro->code.n_slots = function.n_slots;
    return close_scope(c, s, &node->macro->scope);
}

static bool bind(struct jinja_compile *c, struct jinja_node *node, const struct place *at)
{
    struct place soft = *at;
    soft.soft = true;
    switch (node->kind) {
    case NODE_NAME:
    case NODE_NSREF:
        return bind_name(c, node, at);
    case NODE_FILTER:
    case NODE_TEST:
        return bind_filter(c, node, at);
    case NODE_IF:
    case NODE_CONDEXPR:
        return bind_kids(c, node, &soft);
    case NODE_SET_BLOCK:
        return bind_set_block(c, node, at);
    case NODE_FOR:
        return bind_for(c, node, at);
    case NODE_MACRO:
        return bind_name(c, node, at) && bind_macro(c, node, at->scope->function);
    case NODE_CALL_BLOCK:
        return bind_macro(c, node, at->scope->function) &&
               (!node->kids[CALL_CALL] || bind(c, node->kids[CALL_CALL], at));
    case NODE_FILTER_BLOCK:
        return bind_filter_block(c, node, at);
    case NODE_WITH:
        return bind_with(c, node, at);
    case NODE_BREAK:
        return at->breakable || jinja_compile_fail(c, JINJA_SYNTAX, node->line, node->column,
                                                   "SyntaxError", "'break' outside loop");
    case NODE_CONTINUE:
        return at->breakable ||
               jinja_compile_fail(c, JINJA_SYNTAX, node->line, node->column, "SyntaxError",
                                  "'continue' not properly in loop");
    default:
        return bind_kids(c, node, at);
    }
}

bool jinja_resolve(struct jinja_compile *c)
{
    struct function root = {NULL, 0, 0};
    struct symbol_scope *s = open_scope(c, &root);
    struct place at = {.scope = s};
    bool ok = s && see(c, s, c->out->body) && bind(c, c->out->body, &at) &&
              close_scope(c, s, &c->out->scope);
    c->out->code.n_slots = root.n_slots;
    return ok;
}
