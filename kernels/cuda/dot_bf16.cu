#define FORMAT bf16
#define TYPE BF16
#include "dot_formats.h"
