#define FORMAT f16
#define TYPE F16
#include "dot_formats.h"
