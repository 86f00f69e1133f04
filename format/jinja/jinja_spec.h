/* How a number or text is laid out in a field: printf-style formatting and format() share it. */
#pragma once
#include "jinja_inside.h"

struct jinja_spec {
    uint32_t fill;      /* 0: a space */
    char align;         /* < > ^ = ; 0: the default of the type */
    char sign;          /* + - or space; 0: - */
    bool alternate;     /* # */
    bool zero;          /* 0 before the width */
    bool no_minus_zero; /* z */
    char grouping;      /* , or _ ; 0: none */
    char type;          /* 0: none */
    int64_t width;      /* -1: none */
    int64_t precision;  /* -1: none */
    bool data;          /* the origin of what is added around the value */
};

/* s in its field; of its bytes the first `sign` are sign and prefix, after which '=' pads. */
bool jinja_add_field(struct jinja *j, struct jinja_builder *b, const struct jinja_spec *spec,
                     const struct jinja_string *s, size_t sign);
/* i in base 10, 8, 16, 2 by spec->type (d o x X b), with sign, prefix, grouping. */
bool jinja_add_integer(struct jinja *j, struct jinja_builder *b, const struct jinja_spec *spec,
                       int64_t i);
/* f by spec->type (e E f F g G % or 0: as repr, or g with a point) */
bool jinja_add_real(struct jinja *j, struct jinja_builder *b, const struct jinja_spec *spec,
                    double f);
