/* What methods of str do, for filters as well; filters. */
#pragma once
#include "jinja_inside.h"

enum jinja_case { JINJA_UPPER, JINJA_LOWER, JINJA_TITLE, JINJA_CAPITALIZE };
/* (jinja_case.c) */
bool jinja_change_case(struct jinja *j, const struct jinja_string *s, enum jinja_case how,
                       struct jinja_value *out);

/* The table of str's methods */
extern const struct jinja_builtin jinja_str_methods[];
extern const size_t jinja_str_methods_count;
/* s.split(by): a list; by is not empty */
bool jinja_split(struct jinja *j, const struct jinja_string *s, const struct jinja_string *by,
                 struct jinja_value *out);
/* The lines of s without their ends; with them where keep is set */
bool jinja_split_lines(struct jinja *j, const struct jinja_string *s, bool keep,
                       struct jinja_items *lines);
/* s.strip(chars) on the sides that are asked for; chars: None or missing: spaces */
bool jinja_strip(struct jinja *j, const struct jinja_string *s, struct jinja_value chars,
                 const char *name, bool left, bool right, struct jinja_value *out);
/* s with all occurrences of old, at most count (negative: no limit), replaced */
bool jinja_replace(struct jinja *j, const struct jinja_string *s, const struct jinja_string *old,
                   const struct jinja_string *with, int64_t count, struct jinja_value *out);
/* separator.join(items), all str()ed where any is set */
bool jinja_join(struct jinja *j, const struct jinja_string *separator,
                const struct jinja_value *items, size_t count, bool any, struct jinja_value *out);

/* ---- filters as their files write and list them ---- */

#define FILTER(name)                                                                               \
    static bool filter_##name(struct jinja *j, struct jinja_value value,                           \
                              __attribute__((unused)) const struct jinja_args *args,               \
                              struct jinja_value *out)

extern const struct jinja_builtin jinja_list_filters[];
extern const size_t jinja_list_filters_count;
