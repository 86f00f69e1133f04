#include "rope.h"
#include "math64.h"

static const double TWO_PI = 0x1.921fb54442d18p+2;

static double llama3_frequency(const struct rope_config *r, double f)
{
    double wavelength = TWO_PI / f;
    if (wavelength < r->original_positions / r->high_freq_factor)
        return f;
    if (wavelength > r->original_positions / r->low_freq_factor)
        return f / r->factor;
    double smooth = (r->original_positions / wavelength - r->low_freq_factor) /
                    (r->high_freq_factor - r->low_freq_factor);
    return (1 - smooth) * f / r->factor + smooth * f;
}

/* |x| < 2^51 */
static double round_down(double x)
{
    double n = (double)(int64_t)x;
    return n > x ? n - 1 : n;
}

struct ramp {
    double low, high; /* pairs below turn as they were, pairs above as if by factor slower */
};

/* The pair that turns `rotations` times over the original positions, as a fraction */
static double yarn_dimension(const struct rope_config *r, double dim, double rotations)
{
    return dim * math64_log(r->original_positions / (rotations * TWO_PI)) /
           (2 * math64_log(r->theta));
}

static struct ramp yarn_ramp(const struct rope_config *r, double dim)
{
    struct ramp ramp = {yarn_dimension(r, dim, r->beta_fast), yarn_dimension(r, dim, r->beta_slow)};
    if (r->truncate) {
        ramp.low = round_down(ramp.low);
        ramp.high = -round_down(-ramp.high);
    }
    if (ramp.low < 0)
        ramp.low = 0;
    if (ramp.high > dim - 1)
        ramp.high = dim - 1;
    if (ramp.low == ramp.high)
        ramp.high += 0.001;
    return ramp;
}

static double yarn_frequency(const struct rope_config *r, struct ramp ramp, double i, double f)
{
    double slower = (i - ramp.low) / (ramp.high - ramp.low);
    slower = slower < 0 ? 0 : slower > 1 ? 1 : slower;
    return f / r->factor * slower + f * (1 - slower);
}

void rope_frequencies(const struct model_config *model, double *f)
{
    const struct rope_config *r = &model->rope;
    double dim = (double)model->head_dim;
    struct ramp ramp = {0};
    if (r->type == ROPE_YARN)
        ramp = yarn_ramp(r, dim);
    for (uint64_t i = 0; i < model->head_dim / 2; i++) {
        double plain = math64_pow(r->theta, -(double)(2 * i) / dim);
        switch (r->type) {
        case ROPE_DEFAULT:
            f[i] = plain;
            break;
        case ROPE_LINEAR:
            f[i] = plain / r->factor;
            break;
        case ROPE_LLAMA3:
            f[i] = llama3_frequency(r, plain);
            break;
        case ROPE_YARN:
            f[i] = yarn_frequency(r, ramp, (double)i, plain);
            break;
        }
    }
}

void rope_row(const double *f, size_t half, uint64_t position, double attention_factor, float *cos,
              float *sin)
{
    for (size_t i = 0; i < half; i++) {
        double s, c;
        math64_sincos((double)position * f[i], &s, &c);
        cos[i] = (float)(c * attention_factor);
        sin[i] = (float)(s * attention_factor);
    }
}

static double magnitude(double scale, double k)
{
    return scale > 1 ? 0.1 * k * math64_log(scale) + 1 : 1;
}

double rope_yarn_attention_factor(double factor, double mscale, double mscale_all_dim)
{
    if (mscale != 0 && mscale_all_dim != 0)
        return magnitude(factor, mscale) / magnitude(factor, mscale_all_dim);
    return magnitude(factor, 1);
}
