#define FORMAT int4
#define TYPE I4<8>
#include "dot_formats.h"
