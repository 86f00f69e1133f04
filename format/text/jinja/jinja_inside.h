/* What the files of Jinja's values share: lists that grow, arguments, strings in messages. */
#pragma once
#include "jinja_value.h"

/* count * size bytes, as jinja_alloc */
void *jinja_array(struct jinja *j, uint64_t count, size_t size);
/* A sequence whose items (JINJA_UNDEFINED without a message) the caller fills at once. Spends a
 * step an item. NULL on error. */
struct jinja_sequence *jinja_new_sequence(struct jinja *j, enum jinja_kind kind, size_t count,
                                          struct jinja_value *out);

/* Values that grow in number; {0} is empty; its memory is the rendering's. */
struct jinja_items {
    struct jinja_value *items;
    size_t count, cap;
};
bool jinja_push(struct jinja *j, struct jinja_items *list, struct jinja_value item);
bool jinja_take_items(struct jinja *j, struct jinja_items *list, enum jinja_kind kind,
                      struct jinja_value *out);

/* ---- strings (jinja_string.c) ---- */

extern const struct jinja_string jinja_space; /* " " */
static inline struct jinja_value jinja_of_string(const struct jinja_string *s)
{
    return (struct jinja_value){.kind = JINJA_STRING, .string = s};
}
/* The template's own text, a C string that stays. */
bool jinja_text_value(struct jinja *j, const char *text, struct jinja_value *out);
static inline bool jinja_mark_at(const struct jinja_string *s, size_t i)
{
    return s->marks ? s->marks[i] != 0 : s->data;
}
bool jinja_same_string(const struct jinja_string *a, const struct jinja_string *b);
bool jinja_string_is(const struct jinja_string *s, const char *text);
/* The byte at which character index begins (index <= n_chars); spends what it walks. */
bool jinja_byte_of(struct jinja *j, const struct jinja_string *s, size_t index, size_t *byte);
/* The character at byte i (i < n); *n: its bytes */
uint32_t jinja_char_at(const struct jinja_string *s, size_t i, size_t *n);
/* The byte where the character before byte i begins (i > 0) */
size_t jinja_before(const struct jinja_string *s, size_t i);
/* s, n times */
bool jinja_add_fill(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s,
                    uint64_t times);
/* The text as bytes only, the template's own */
bool jinja_add_text(struct jinja *j, struct jinja_builder *b, const char *text);
/* str(v) as a string */
bool jinja_to_string(struct jinja *j, struct jinja_value v, const struct jinja_string **out);
/* str(v), repr(v) appended */
bool jinja_add_str(struct jinja *j, struct jinja_builder *b, struct jinja_value v);
bool jinja_add_repr(struct jinja *j, struct jinja_builder *b, struct jinja_value v);
/* For messages: a C string of the rendering's memory; "" after an error. */
const char *jinja_repr_text(struct jinja *j, struct jinja_value v);
const char *jinja_string_text(struct jinja *j, const struct jinja_string *s);

/* The same string as Markup, and as plain str */
bool jinja_mark_safe(struct jinja *j, struct jinja_value v, struct jinja_value *out);
bool jinja_unmark_safe(struct jinja *j, struct jinja_value v, struct jinja_value *out);
/* With some characters spelled otherwise: spell gives the number of bytes, 0: as it is. */
enum { JINJA_SPELLED_MAX = 16 };
typedef int jinja_speller(uint32_t c, int how, char out[JINJA_SPELLED_MAX]);
bool jinja_add_spelled(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s,
                       jinja_speller *spell, int how);
/* With &, <, >, ' and " as entities; Markup as it is. */
bool jinja_add_escaped(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s);

/* First occurrence of needle (not empty) in s at or after byte from; s->n: none. Paid. */
bool jinja_find(struct jinja *j, const struct jinja_string *s, const struct jinja_string *needle,
                size_t from, size_t *at);

/* Characters as Python's str methods see them (Unicode 14, which Python 3.11 follows) */
bool jinja_is_space(uint32_t c);
bool jinja_is_printable(uint32_t c);
bool jinja_is_decimal(uint32_t c);
int jinja_decimal_digit(uint32_t c); /* its value; -1: no decimal digit */

/* ---- numbers (jinja_number.c) ---- */

enum { JINJA_FLOAT_BUF = 40 };
/* float.__repr__; n bytes and a NUL */
size_t jinja_float_repr(double f, char out[JINJA_FLOAT_BUF]);
/* Python's int(text) and float(text), spaces and underscores allowed. *ok false: no number.
 * The functions' own false: beyond 64 bits. */
bool jinja_parse_int(struct jinja *j, const struct jinja_string *s, int64_t *out, bool *ok);
bool jinja_parse_float(struct jinja *j, const struct jinja_string *s, double *out, bool *ok);
/* An integer or bool as a number */
static inline bool jinja_is_int(struct jinja_value v)
{
    return v.kind == JINJA_INT || v.kind == JINJA_BOOL;
}
static inline bool jinja_is_number(struct jinja_value v)
{
    return jinja_is_int(v) || v.kind == JINJA_FLOAT;
}
static inline int64_t jinja_int_of(struct jinja_value v)
{
    return v.kind == JINJA_BOOL ? v.boolean : v.integer;
}
static inline double jinja_float_of(struct jinja_value v)
{
    return v.kind == JINJA_FLOAT ? v.real : (double)jinja_int_of(v);
}
/* int(f) where it fits; OverflowError, ValueError, limit otherwise */
bool jinja_float_to_int(struct jinja *j, double f, int64_t *out);
/* -1, 0, 1; 2: not ordered (NaN) */
int jinja_compare_numbers(struct jinja_value a, struct jinja_value b);

/* ---- values ---- */

/* Has iter() in Python */
static inline bool jinja_is_iterable(struct jinja_value v)
{
    return v.kind == JINJA_UNDEFINED || (v.kind >= JINJA_STRING && v.kind != JINJA_OBJECT);
}

/* hash(v); false: of a type that has none, or nested too deep (j->failed) */
bool jinja_hash(struct jinja *j, struct jinja_value v, uint64_t seed, uint64_t *out);
bool jinja_contains(struct jinja *j, struct jinja_value item, struct jinja_value box, bool *found);
/* <, <=, >, >= */
bool jinja_order(struct jinja *j, enum jinja_operator op, struct jinja_value a,
                 struct jinja_value b, struct jinja_value *out);
/* Ascending, stable; keys[i] of items[i]. reverse keeps equal ones in order, as Python does. */
bool jinja_sort(struct jinja *j, struct jinja_value *items, struct jinja_value *keys, size_t count,
                bool reverse);

/* The date of now (seconds since 1970, local) */
bool jinja_strftime(struct jinja *j, const struct jinja_string *format, int64_t now,
                    struct jinja_value *out);

/* ---- arguments (jinja_args.c) ---- */

/* A function as Python sees it: names of its parameters, divided by spaces; the first `required`
 * must be given. hidden: leading parameters that the template does not write (the filtered value,
 * the environment): they count in messages. */
struct jinja_signature {
    const char *function; /* "do_sort" */
    const char *names;
    int required, hidden;
    enum {
        JINJA_BY_NAME,
        JINJA_BY_POSITION, /* written in C: "str.replace"; without a type where the value counts */
        JINJA_PARSED,      /* written in C, by name, too */
        JINJA_AS_GIVEN,    /* gets what is written */
    } convention;
};
enum { JINJA_PARAMETERS_MAX = 8 };
/* values[i] of the parameters given; others are untouched, so hold defaults before. */
bool jinja_bind(struct jinja *j, const struct jinja_signature *signature,
                const struct jinja_args *args, struct jinja_value *values);
/* v as an index: int or bool. "'str' object cannot be interpreted as an integer" */
bool jinja_index(struct jinja *j, struct jinja_value v, int64_t *out);

/* A filter, test or method, in tables. The function gets as many positional arguments as there are
 * parameters; those that were not given are missing. */
struct jinja_builtin {
    const char *name;
    jinja_function *function;
    struct jinja_signature signature;
};
const struct jinja_builtin *jinja_find_builtin(const struct jinja_builtin *table, size_t count,
                                               const char *name, size_t n);
/* Is the name one of words, which spaces divide? */
bool jinja_word_in(const char *words, const char *name, size_t n);
static inline struct jinja_value jinja_or(struct jinja_value v, struct jinja_value fallback)
{
    return jinja_is_missing(v) ? fallback : v;
}
#define jinja_refuse(j, format, ...)                                                               \
    jinja_stop(j, JINJA_SYNTAX, format " is not supported", ##__VA_ARGS__)
