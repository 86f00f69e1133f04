#define FORMAT int4_min
#define TYPE I4<0>
#include "dot_formats.h"
