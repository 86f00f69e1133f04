#define FORMAT f32
#define TYPE F32
#include "dot_formats.h"
