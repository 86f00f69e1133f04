#define FORMAT int4
#define TYPE I4<false>
#include "dot_formats.h"
