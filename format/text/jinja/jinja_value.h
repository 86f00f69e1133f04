/* The values that a template works on, and what Python would do with them.
 *
 * Everything lives in the memory of one rendering (struct jinja) and is freed with it; a value is
 * never changed once made, but for namespaces. Functions that can fail return false after
 * jinja_raise or jinja_stop, and the rendering ends. Semantics are those of Python 3 and jinja2
 * 3.1, messages included.
 */
#pragma once
#include "jinja.h"
#include "mem.h"

enum jinja_kind {
    JINJA_UNDEFINED, /* .undefined says of what, for the message when it is used */
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT, /* 64 bits; beyond them is a limit */
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_GENERATOR, /* what map, select ... give: a list that has no length and no index */
    JINJA_VIEW,      /* dict.keys(), .values(), .items(): sequence with type_name */
    JINJA_RANGE,     /* .sequence like a list's, made at once */
    JINJA_DICT,
    JINJA_OBJECT, /* functions, macros, bound methods, loop, namespace ... */
};

struct jinja;
struct jinja_value;

/* UTF-8, always valid. marks: the origin of each byte (jinja.h), NULL where all bytes have the
 * same, which is then `data`. */
struct jinja_string {
    const char *bytes;
    size_t n, n_chars;
    const unsigned char *marks;
    bool data;
    bool safe; /* Markup */
};

struct jinja_sequence {
    struct jinja_value *items;
    size_t count;
    const char *type_name; /* Python's: "list", "generator", "dict_items" ... */
    size_t *taken; /* items a generator has given already; NULL for what can be walked again */
    int64_t start, stop, step; /* of a RANGE */
};

struct jinja_entry;
/* In order of insertion. index: a hash table over entries, NULL for few. */
struct jinja_dict {
    struct jinja_entry *entries;
    size_t count, cap;
    uint32_t *index;
    size_t index_slots;
};

struct jinja_undefined {
    const char *message;   /* "'x' is undefined": what using it says */
    const char *exception; /* NULL: UndefinedError; or "SecurityError" */
};

struct jinja_value {
    enum jinja_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double real;
        const struct jinja_string *string;
        const struct jinja_sequence *sequence; /* LIST, TUPLE, GENERATOR, VIEW, RANGE */
        const struct jinja_dict *dict;
        struct jinja_object *object;
        struct jinja_undefined *undefined;
    };
};

struct jinja_entry {
    struct jinja_value key, value;
};

struct jinja_keyword {
    const struct jinja_string *name;
    struct jinja_value value;
};
struct jinja_args {
    const struct jinja_value *items;
    size_t count;
    const struct jinja_keyword *keywords;
    size_t n_keywords;
};

/* A kind of object: NULL where it cannot do that. */
struct jinja_object_type {
    const char *name; /* Python's type name, in messages */
    const char
        *module; /* "jinja2.utils": before the name where a message says "X object"; or NULL */
    bool (*call)(struct jinja *j, struct jinja_object *self, const struct jinja_args *args,
                 struct jinja_value *out);
    /* *found false: no such attribute */
    bool (*get)(struct jinja *j, struct jinja_object *self, const struct jinja_string *name,
                struct jinja_value *out, bool *found);
    bool (*set)(struct jinja *j, struct jinja_object *self, const struct jinja_string *name,
                struct jinja_value value); /* {% set ns.x = %} */
    bool (*print)(struct jinja *j, struct jinja_object *self, struct jinja_value *out); /* str() */
};
struct jinja_object {
    const struct jinja_object_type *type;
    struct jinja_value bound; /* of a method: its object */
    const void *data;         /* the type's own, constant */
    void *state;              /* the type's own */
};

/* One rendering. The evaluator makes it; builtins see memory, budget and clock. */
struct jinja {
    struct mem_arena arena;
    uint64_t steps_left;
    int depth;
    uint32_t line; /* of the node being evaluated: errors name it */
    const struct jinja_options *options;
    struct jinja_error *error; /* filled once */
    bool failed;
    void *evaluator; /* jinja_eval's own */
};

/* ---- budget and errors (jinja_value.c) ---- */

/* Memory of the rendering, zeroed, 16-byte aligned. NULL after JINJA_LIMIT or JINJA_MEMORY. */
void *jinja_alloc(struct jinja *j, uint64_t bytes);
/* Spend steps: the evaluator spends 1 a node, builtins 1 for every item or every
 * JINJA_BYTES_PER_STEP bytes that they look at, compare, copy or make, before they do.
 * false: the budget is spent, JINJA_LIMIT. */
enum { JINJA_BYTES_PER_STEP = 64 };
bool jinja_spend(struct jinja *j, uint64_t steps);
bool jinja_spend_bytes(struct jinja *j, uint64_t bytes);
/* Enter and leave a level of nesting; false: JINJA_DEPTH_MAX reached, JINJA_LIMIT. */
bool jinja_enter(struct jinja *j);
void jinja_leave(struct jinja *j);
/* Fail with "TYPE: text" (type NULL: text alone). Return false. */
bool jinja_raise(struct jinja *j, const char *type, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool jinja_stop(struct jinja *j, enum jinja_failure failure, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The message of an undefined that is used: UndefinedError. */
bool jinja_raise_undefined(struct jinja *j, struct jinja_value value);

/* ---- making values (jinja_value.c, jinja_string.c) ---- */

static inline struct jinja_value jinja_none(void)
{
    return (struct jinja_value){.kind = JINJA_NONE};
}
static inline struct jinja_value jinja_bool(bool b)
{
    return (struct jinja_value){.kind = JINJA_BOOL, .boolean = b};
}
static inline struct jinja_value jinja_int(int64_t i)
{
    return (struct jinja_value){.kind = JINJA_INT, .integer = i};
}
static inline struct jinja_value jinja_float(double f)
{
    return (struct jinja_value){.kind = JINJA_FLOAT, .real = f};
}
/* message is printf's, copied */
bool jinja_make_undefined(struct jinja *j, struct jinja_value *out, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
size_t jinja_count_chars(const char *bytes, size_t n);
/* bytes: n of valid UTF-8, copied */
bool jinja_make_string(struct jinja *j, const char *bytes, size_t n, bool data,
                       struct jinja_value *out);
/* Bytes [begin, end) of a string, at character boundaries; shares the bytes. */
bool jinja_substring(struct jinja *j, const struct jinja_string *s, size_t begin, size_t end,
                     struct jinja_value *out);
/* Items are copied. kind: LIST, TUPLE, GENERATOR */
bool jinja_make_sequence(struct jinja *j, enum jinja_kind kind, const struct jinja_value *items,
                         size_t count, struct jinja_value *out);
/* An empty dict to fill with jinja_dict_put before anyone sees it. */
struct jinja_dict *jinja_make_dict(struct jinja *j);
/* Replaces the value of an equal key. TypeError: unhashable key */
bool jinja_dict_put(struct jinja *j, struct jinja_dict *dict, struct jinja_value key,
                    struct jinja_value value);
/* NULL: absent. An unhashable key is absent. */
const struct jinja_value *jinja_dict_get(struct jinja *j, const struct jinja_dict *dict,
                                         struct jinja_value key);
const struct jinja_value *jinja_dict_get_name(const struct jinja_dict *dict, const char *name,
                                              size_t n);
static inline struct jinja_value jinja_of_dict(const struct jinja_dict *dict)
{
    return (struct jinja_value){.kind = JINJA_DICT, .dict = dict};
}
bool jinja_make_object(struct jinja *j, const struct jinja_object_type *type, const void *data,
                       void *state, struct jinja_value *out);
/* A variable or argument that was not given: never seen by operations. */
static inline struct jinja_value jinja_missing(void)
{
    return (struct jinja_value){.kind = JINJA_UNDEFINED};
}
static inline bool jinja_is_missing(struct jinja_value v)
{
    return v.kind == JINJA_UNDEFINED && !v.undefined;
}
/* A JSON value, deep; strings get the origin data. */
bool jinja_from_json(struct jinja *j, const json_t *json, bool data, struct jinja_value *out);

/* Text that grows, with origins. {0} is empty; its memory is the rendering's. */
struct jinja_builder {
    char *bytes;
    unsigned char *marks; /* NULL as long as all bytes have the same origin */
    size_t n, cap;
    bool data;
};
bool jinja_add(struct jinja *j, struct jinja_builder *b, const char *bytes, size_t n, bool data);
/* Bytes [begin, end) of s with their origins. */
bool jinja_add_part(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s,
                    size_t begin, size_t end);
bool jinja_add_string(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s);
/* What was added, as a string; the builder is empty afterwards. */
bool jinja_build(struct jinja *j, struct jinja_builder *b, struct jinja_value *out);

/* ---- Python's operations (jinja_ops.c, jinja_print.c) ---- */

/* Python's name of the type: "str", "NoneType", "dict" ... */
const char *jinja_type_name(struct jinja_value v);
/* bool(v); an undefined is false */
bool jinja_truth(struct jinja_value v);

/* clang-format off */
enum jinja_operator {
    JINJA_ADD, JINJA_SUB, JINJA_MUL, JINJA_DIV, JINJA_FLOOR_DIV, JINJA_MOD, JINJA_POW,
    JINJA_EQ, JINJA_NE, JINJA_LT, JINJA_LE, JINJA_GT, JINJA_GE, JINJA_IN, JINJA_NOT_IN,
};
/* clang-format on */
/* a OP b */
bool jinja_operate(struct jinja *j, enum jinja_operator op, struct jinja_value a,
                   struct jinja_value b, struct jinja_value *out);
/* -v or +v */
bool jinja_sign(struct jinja *j, char sign, struct jinja_value v, struct jinja_value *out);
bool jinja_equal(struct jinja *j, struct jinja_value a, struct jinja_value b, bool *equal);
/* len(v) */
bool jinja_length(struct jinja *j, struct jinja_value v, int64_t *length);
/* for x in v: the items at once; of a dict its keys, of a string its characters. TypeError:
 * "'NoneType' object is not iterable" */
bool jinja_iterate(struct jinja *j, struct jinja_value v, const struct jinja_value **items,
                   size_t *count);
/* str(v) and repr(v). Strings are themselves in str. */
bool jinja_str(struct jinja *j, struct jinja_value v, struct jinja_value *out);
bool jinja_repr(struct jinja *j, struct jinja_value v, struct jinja_value *out);
/* json.dumps as transformers' tojson. indent NULL: all on one line; separators NULL: Python's.
 * (jinja_json.c) */
bool jinja_to_json(struct jinja *j, struct jinja_value v, const struct jinja_string *indent,
                   const struct jinja_string *const separators[2], bool sort_keys,
                   bool ensure_ascii, struct jinja_value *out);

/* v.name, as jinja2's environment.getattr: attribute (a method, a namespace's value), then item;
 * undefined where there is neither. SecurityError where the sandbox forbids it; attributes that
 * begin with an underscore are undefined as sandbox has it. (jinja_methods.c) */
bool jinja_get_attribute(struct jinja *j, struct jinja_value v, const struct jinja_string *name,
                         struct jinja_value *out);
/* v[key]: item, then, for a string key, attribute; undefined where there is neither. */
bool jinja_get_item(struct jinja *j, struct jinja_value v, struct jinja_value key,
                    struct jinja_value *out);
/* v[start:stop:step], JINJA_NONE where left out */
bool jinja_get_slice(struct jinja *j, struct jinja_value v, struct jinja_value start,
                     struct jinja_value stop, struct jinja_value step, struct jinja_value *out);
/* callee(args); TypeError: "'str' object is not callable"; an undefined raises */
bool jinja_call(struct jinja *j, struct jinja_value callee, const struct jinja_args *args,
                struct jinja_value *out);

/* ---- builtins (jinja_filters.c, jinja_tests.c, jinja_globals.c) ---- */

typedef bool jinja_function(struct jinja *j, struct jinja_value value,
                            const struct jinja_args *args, struct jinja_value *out);
struct jinja_builtin;
/* NULL: there is none of that name. Tests give a bool. */
const struct jinja_builtin *jinja_find_filter(const char *name, size_t n);
const struct jinja_builtin *jinja_find_test(const char *name, size_t n);
bool jinja_apply(struct jinja *j, const struct jinja_builtin *builtin, struct jinja_value value,
                 const struct jinja_args *args, struct jinja_value *out);
/* jinja2 or Python has it, we do not */
bool jinja_refused_filter(const char *name, size_t n);
bool jinja_refused_test(const char *name, size_t n);
bool jinja_refused_method(const char *name, size_t n);
/* range, dict, namespace, raise_exception, strftime_now. *found false: no such global. */
bool jinja_find_global(struct jinja *j, const char *name, size_t n, struct jinja_value *out,
                       bool *found);
