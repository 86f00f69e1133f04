#define FORMAT int8
#define TYPE I8
#include "dot_formats.h"
