#define FORMAT fp8
#define TYPE E4M3
#include "dot_formats.h"
