/* jinja2's filters, by where they are written; the table is in jinja_filters.c. */
#pragma once
#include "jinja_methods.h"

/* jinja_filter_list.c */
jinja_function jinja_filter_map, jinja_filter_select, jinja_filter_reject, jinja_filter_selectattr,
    jinja_filter_rejectattr, jinja_filter_list, jinja_filter_first, jinja_filter_last,
    jinja_filter_batch, jinja_filter_slice, jinja_filter_items, jinja_filter_reverse,
    jinja_filter_join, jinja_filter_sum;
/* jinja_filter_order.c */
jinja_function jinja_filter_sort, jinja_filter_dictsort, jinja_filter_unique, jinja_filter_min,
    jinja_filter_max, jinja_filter_groupby;
/* jinja_filter_text.c */
jinja_function jinja_filter_upper, jinja_filter_lower, jinja_filter_capitalize, jinja_filter_title,
    jinja_filter_trim, jinja_filter_replace, jinja_filter_center, jinja_filter_indent,
    jinja_filter_truncate, jinja_filter_wordcount, jinja_filter_format, jinja_filter_string,
    jinja_filter_escape, jinja_filter_forceescape, jinja_filter_safe;
/* jinja_filter_web.c */
jinja_function jinja_filter_striptags, jinja_filter_urlencode, jinja_filter_xmlattr,
    jinja_filter_filesizeformat;
/* jinja_filter_wrap.c, jinja_filter_pprint.c */
jinja_function jinja_filter_wordwrap, jinja_filter_pprint;
/* jinja_filter_number.c */
jinja_function jinja_filter_abs, jinja_filter_int, jinja_filter_float, jinja_filter_round;

/* make_attrgetter: how attribute="a.b.0" is looked up. */
struct jinja_path {
    struct jinja_value *parts; /* strings and ints */
    size_t count;
};
bool jinja_path_parse(struct jinja *j, struct jinja_value attribute, struct jinja_path *path);
/* fallback (JINJA_NONE: none) stands for an undefined on the way; fold: strings in lower case */
bool jinja_path_get(struct jinja *j, const struct jinja_path *path, struct jinja_value item,
                    struct jinja_value fallback, bool fold, struct jinja_value *out);
/* v where it is no string, else in lower case */
bool jinja_ignore_case(struct jinja *j, struct jinja_value v, struct jinja_value *out);
