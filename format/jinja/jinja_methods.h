/* The methods of str as functions of a string and arguments; filters use them too. */
#pragma once
#include "jinja_inside.h"

/* The table of str's methods */
const struct jinja_named_function *jinja_str_methods(size_t *count);
/* The type name, this very pointer, of what groupby gives: tuples with .grouper and .list */
extern const char jinja_group_type[];
/* v.name, without items: the attr filter */
bool jinja_attribute_only(struct jinja *j, struct jinja_value v, const struct jinja_string *name,
                          struct jinja_value *out);

/* jinja_str_case.c */
jinja_function jinja_str_upper, jinja_str_lower, jinja_str_title, jinja_str_capitalize,
    jinja_str_swapcase, jinja_str_casefold;
jinja_function jinja_str_isupper, jinja_str_islower, jinja_str_istitle, jinja_str_isalpha,
    jinja_str_isalnum, jinja_str_isdigit, jinja_str_isdecimal, jinja_str_isnumeric,
    jinja_str_isspace, jinja_str_isascii, jinja_str_isprintable, jinja_str_isidentifier;
/* jinja_str_split.c */
jinja_function jinja_str_split, jinja_str_rsplit, jinja_str_splitlines, jinja_str_partition,
    jinja_str_rpartition;
/* jinja_str_search.c */
jinja_function jinja_str_find, jinja_str_rfind, jinja_str_index, jinja_str_rindex, jinja_str_count,
    jinja_str_startswith, jinja_str_endswith, jinja_str_removeprefix, jinja_str_removesuffix,
    jinja_str_replace;
/* jinja_str_layout.c */
jinja_function jinja_str_strip, jinja_str_lstrip, jinja_str_rstrip, jinja_str_center,
    jinja_str_ljust, jinja_str_rjust, jinja_str_zfill, jinja_str_expandtabs, jinja_str_join;
/* s with all occurrences of old, at most count (negative: no limit), replaced */
bool jinja_replace(struct jinja *j, const struct jinja_string *s, const struct jinja_string *old,
                   const struct jinja_string *with, int64_t count, struct jinja_value *out);
/* separator.join(items), all str()ed where any is set */
bool jinja_join(struct jinja *j, const struct jinja_string *separator,
                const struct jinja_value *items, size_t count, bool any, struct jinja_value *out);
/* The lines of s without their ends; with them where keep is set */
bool jinja_split_lines(struct jinja *j, const struct jinja_string *s, bool keep,
                       struct jinja_items *lines);
/* The end before byte n of s after stripping chars (NULL: spaces) at the right and left */
bool jinja_strip_bounds(struct jinja *j, const struct jinja_string *s,
                        const struct jinja_string *chars, bool left, bool right, size_t *begin,
                        size_t *end);
/* Lower case of s, as str.lower */
bool jinja_lower(struct jinja *j, const struct jinja_string *s, struct jinja_value *out);
