/* A template as a tree: what the parser makes, the scopes complete and the evaluator walks.
 *
 * All nodes have one shape, so that whoever needs only "every node below" needs no table of kinds.
 * Children stand in the order in which jinja2 visits them; a child that is not there is NULL. The
 * tree is constant once compiled and lives in the template's arena.
 */
#pragma once
#include "jinja_value.h"

/* Levels of a tree: left-deep chains (a.b.c, a + b + c) are high without nesting. */
#define JINJA_HEIGHT_MAX 500

enum jinja_node_kind {
    /* expressions */
    NODE_CONST,    /* value */
    NODE_NAME,     /* name, ref */
    NODE_NSREF,    /* target ns.attribute: name, ref; value: the attribute's name */
    NODE_TUPLE,    /* items */
    NODE_LIST,     /* items */
    NODE_DICT,     /* key, value, key, value ... */
    NODE_CONDEXPR, /* COND_* */
    NODE_OR,       /* left, right */
    NODE_AND,      /* left, right */
    NODE_NOT,      /* operand */
    NODE_NEG,      /* operand */
    NODE_POS,      /* operand */
    NODE_BINARY,   /* left, right; op */
    NODE_CONCAT,   /* items */
    NODE_COMPARE,  /* first, NODE_OPERAND ... */
    NODE_OPERAND,  /* operand; op */
    NODE_GETATTR,  /* object; value: the name as a string */
    NODE_GETITEM,  /* object, index or NODE_SLICE */
    NODE_SLICE,    /* start, stop, step, each may be NULL */
    NODE_CALL,     /* callee, arguments ... */
    NODE_FILTER,   /* operand (NULL: the body of a block), arguments ...; builtin, name */
    NODE_TEST,     /* operand, arguments ...; builtin, name */
    NODE_KEYWORD,  /* an argument NAME=value; name */
    NODE_DYN_ARGS, /* an argument *value */
    /* statements */
    NODE_BODY,         /* statements */
    NODE_DATA,         /* value */
    NODE_PRINT,        /* expressions */
    NODE_FOR,          /* FOR_* */
    NODE_IF,           /* test, body, test, body ... [else body] */
    NODE_MACRO,        /* MACRO_*; name */
    NODE_CALL_BLOCK,   /* CALL_*, then as a macro */
    NODE_FILTER_BLOCK, /* body, filter */
    NODE_WITH,         /* target, value, ..., body */
    NODE_SET,          /* target, value */
    NODE_SET_BLOCK,    /* target, filter or NULL, body */
    NODE_BREAK,
    NODE_CONTINUE,
};

enum { COND_TEST, COND_THEN, COND_ELSE, COND_KIDS };
enum { FOR_TARGET, FOR_ITER, FOR_BODY, FOR_TEST, FOR_KIDS };
/* A macro's parameters and defaults are NODE_TUPLEs; n defaults belong to the last n parameters. */
enum { MACRO_PARAMS, MACRO_DEFAULTS, MACRO_BODY, MACRO_KIDS };
enum { CALL_CALL = MACRO_KIDS, CALL_KIDS }; /* the call: NULL for generation blocks */

enum jinja_name_use { USE_LOAD, USE_STORE, USE_PARAM };

struct jinja_symbol;

/* An identifier, one for each spelling. */
struct jinja_name {
    struct jinja_string text;
    uint32_t id;
    struct jinja_symbol *innermost; /* while scopes are being made */
    struct jinja_name *next;
};

/* A variable: slot of the function `up` functions out. */
struct jinja_ref {
    uint32_t up, slot;
};

enum jinja_load {
    LOAD_PARAMETER, /* set by whoever enters */
    LOAD_RESOLVE,   /* from the template's variables */
    LOAD_ALIAS,     /* from an outer variable */
    LOAD_MISSING,
};
/* How a scope's variables begin. */
struct jinja_variable {
    struct jinja_name *name;
    uint32_t slot;
    enum jinja_load load;
    struct jinja_ref alias;
};
struct jinja_scope {
    struct jinja_variable *variables;
    size_t count;
};

/* What runs with slots of its own: the template, macros, tests of loops. */
struct jinja_code {
    uint32_t n_slots;
};

/* FOR: the body's and the test's. */
struct jinja_loop_scopes {
    struct jinja_scope body, test;
    struct jinja_code test_code;
    struct jinja_node *test_target;
    bool extended; /* it has a variable `loop`, which is: */
    uint32_t loop_slot;
};
struct jinja_macro_scope {
    struct jinja_scope scope;
    struct jinja_code code;
    bool takes_caller; /* and where it goes: */
    uint32_t caller_slot;
};

struct jinja_node {
    enum jinja_node_kind kind;
    uint32_t line, column;
    uint32_t height;
    enum jinja_operator op;
    enum jinja_name_use use;
    struct jinja_node **kids;
    size_t n_kids;
    struct jinja_name *name;
    struct jinja_ref ref; /* of name */
    struct jinja_value value;
    const struct jinja_builtin *builtin; /* NULL: unknown, an error when called */
    union {
        struct jinja_scope *scope; /* FILTER_BLOCK, WITH, SET_BLOCK */
        struct jinja_loop_scopes *loop;
        struct jinja_macro_scope *macro; /* MACRO, CALL_BLOCK */
    };
};

struct jinja_template {
    struct mem_arena arena;
    struct jinja_node *body;
    struct jinja_scope scope;
    struct jinja_code code;
    uint32_t n_names;
};

/* Compilation in progress: what parser and scopes share. */
struct jinja_compile {
    struct jinja_template *out;
    struct jinja_error *error;
    struct jinja_name **names; /* a hash table */
    size_t n_slots;
};
/* Memory of the template, zeroed. NULL after an error. */
void *jinja_compile_alloc(struct jinja_compile *c, uint64_t bytes);
struct jinja_name *jinja_intern(struct jinja_compile *c, const char *text, size_t n);
/* Fill the error: type NULL: the text alone. Returns false. */
bool jinja_compile_fail(struct jinja_compile *c, enum jinja_failure failure, uint32_t line,
                        uint32_t column, const char *type, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

/* Source without \r and its last newline -> c->out->body. (jinja_parser.c) */
bool jinja_parse(struct jinja_compile *c, const char *source, size_t n);
/* Where every name lives; what only the tree as a whole shows. (jinja_scope.c) */
bool jinja_resolve(struct jinja_compile *c);
