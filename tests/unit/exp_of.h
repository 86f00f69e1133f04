/* exp(x) of docs/numerics.md section 4 for one value. */
#pragma once
#include "kernels.h"

static inline float exp_of(float x)
{
    float y;
    kernels_best()->exp(&x, 1, &y);
    return y;
}
