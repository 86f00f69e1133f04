/* zeros, or minima: then no zero is taken */
#define FORMAT int4_zero
#define TYPE I4<true>
#include "dot_formats.h"
