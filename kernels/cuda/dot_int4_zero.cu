#define FORMAT int4_zero
#define TYPE I4<-1>
#include "dot_formats.h"
