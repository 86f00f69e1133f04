#include "math64.h"
#include "error.h"

#include <stdint.h>
#include <string.h>

/* The unevaluated sum hi + lo with |lo| at most half an ulp of hi. */
struct pair {
    double hi, lo;
};

static struct pair two_sum(double a, double b)
{
    double s = a + b, t = s - a;
    return (struct pair){s, (a - (s - t)) + (b - t)};
}

/* |a| >= |b| or a == 0 */
static struct pair fast_two_sum(double a, double b)
{
    double s = a + b;
    return (struct pair){s, b - (s - a)};
}

/* a in two halves of 26 bits, so that products of halves are exact */
static struct pair split(double a)
{
    double t = a * 0x1.0000002p+27, hi = t - (t - a);
    return (struct pair){hi, a - hi};
}

static struct pair two_product(double a, double b)
{
    double p = a * b;
    struct pair x = split(a), y = split(b);
    return (struct pair){p, ((x.hi * y.hi - p) + x.hi * y.lo + x.lo * y.hi) + x.lo * y.lo};
}

static struct pair pair_product(struct pair a, struct pair b)
{
    struct pair p = two_product(a.hi, b.hi);
    return fast_two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

static struct pair pair_sum(struct pair a, struct pair b)
{
    struct pair s = two_sum(a.hi, b.hi);
    return fast_two_sum(s.hi, s.lo + (a.lo + b.lo));
}

/* c[0] + c[1] x + ... */
static double polynomial(const double *c, int n, double x)
{
    double y = c[n - 1];
    for (int i = n - 2; i >= 0; i--)
        y = y * x + c[i];
    return y;
}

static double power_of_two(int64_t n)
{
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

/* Nearest integer of |x| < 2^51 */
static double nearest(double x)
{
    return (x + 0x1.8p+52) - 0x1.8p+52;
}

/* e^(x.hi + x.lo), |x.hi| <= 709: 2^n e^r with |r| <= ln(2)/2. LN2_HEAD has 32 bits: n * LN2_HEAD
 * is exact, and so is what it leaves of x. */
static double exp_pair(struct pair x)
{
    static const double LN2_HEAD = 0x1.62e42feep-1, LN2_TAIL = 0x1.a39ef35793c76p-33;
    static const double c[] = {/* 1/k!, k = 2..13 */
                               0x1p-1,
                               0x1.5555555555555p-3,
                               0x1.5555555555555p-5,
                               0x1.1111111111111p-7,
                               0x1.6c16c16c16c17p-10,
                               0x1.a01a01a01a01ap-13,
                               0x1.a01a01a01a01ap-16,
                               0x1.71de3a556c734p-19,
                               0x1.27e4fb7789f5cp-22,
                               0x1.ae64567f544e4p-26,
                               0x1.1eed8eff8d898p-29,
                               0x1.6124613a86d09p-33};
    double n = nearest(x.hi * 0x1.71547652b82fep+0);
    struct pair r = two_sum(x.hi - n * LN2_HEAD, x.lo - n * LN2_TAIL);
    double tail = r.lo + (r.hi * r.lo + r.hi * r.hi * polynomial(c, 12, r.hi));
    struct pair y = fast_two_sum(1, r.hi);
    return (y.hi + (y.lo + tail)) * power_of_two((int64_t)n);
}

double math64_exp(double x)
{
    if (!(x >= -708))
        return x != x ? x : 0;
    if (x > 709)
        return __builtin_inf();
    return exp_pair((struct pair){x, 0});
}

/* log(x) = k log 2 + 2 atanh(s): x = 2^k m, sqrt(1/2) < m <= sqrt(2), s = (m-1)/(m+1), |s| < 0.172.
 * The terms s and s^3/3 are pairs, the rest is below 2^-12 of s. */
static struct pair log_pair(double x)
{
    static const struct pair LN2 = {0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56};
    static const struct pair THIRD = {0x1.5555555555555p-2, 0x1.5555555555555p-56};
    static const double c[] = {/* 1/k, k = 5, 7 ... 25 */
                               1.0 / 5,  1.0 / 7,  1.0 / 9,  1.0 / 11, 1.0 / 13, 1.0 / 15,
                               1.0 / 17, 1.0 / 19, 1.0 / 21, 1.0 / 23, 1.0 / 25};
    tp_assert(x > 0 && x <= 0x1.fffffffffffffp+1023);
    int64_t k = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p+54;
        k = -54;
    }
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    k += (int64_t)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffff) | 0x3ff0000000000000; /* of m in [1, 2) */
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp+0) {
        m *= 0.5;
        k++;
    }
    double f = m - 1; /* exact */
    struct pair g = two_sum(m, 1), s;
    s.hi = f / g.hi;
    struct pair back = two_product(s.hi, g.hi);
    s.lo = (((f - back.hi) - back.lo) - s.hi * g.lo) / g.hi;
    struct pair z = pair_product(s, s);
    struct pair series = pair_product(z, THIRD);
    series = fast_two_sum(series.hi, series.lo + z.hi * z.hi * polynomial(c, 11, z.hi));
    series = pair_product(s, series);
    struct pair half = pair_sum(s, series);
    struct pair scaled = two_product((double)k, LN2.hi);
    scaled = fast_two_sum(scaled.hi, scaled.lo + (double)k * LN2.lo);
    return pair_sum(scaled, (struct pair){2 * half.hi, 2 * half.lo});
}

double math64_log(double x)
{
    return log_pair(x).hi;
}

double math64_pow(double x, double y)
{
    struct pair l = log_pair(x), p = two_product(l.hi, y);
    p = fast_two_sum(p.hi, p.lo + l.lo * y);
    if (p.hi < -708 || p.hi > 709)
        return p.hi < 0 ? 0 : __builtin_inf();
    return exp_pair(p);
}

/* x - n pi/2 to 2^-118, x <= 2^40: a double can come as close to a multiple of pi/2 as 2^-60. */
static struct pair reduce(double x, double n)
{
    static const double P[3] = {0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54,
                                -0x1.f1976b7ed8fbcp-110};
    struct pair first = two_product(n, P[0]), second = two_product(n, P[1]);
    const double minus[4] = {first.lo, second.hi, second.lo, n * P[2]};
    struct pair r = {x - first.hi, 0}; /* exact: they differ by less than 1 */
    for (int i = 0; i < 4; i++) {
        struct pair sum = two_sum(r.hi, -minus[i]);
        r.hi = sum.hi;
        r.lo += sum.lo;
    }
    return fast_two_sum(r.hi, r.lo);
}

void math64_sincos(double x, double *sin, double *cos)
{
    static const double s[] = {/* -1/3!, 1/5! ... 1/17! */
                               -0x1.5555555555555p-3,  0x1.1111111111111p-7,
                               -0x1.a01a01a01a01ap-13, 0x1.71de3a556c734p-19,
                               -0x1.ae64567f544e4p-26, 0x1.6124613a86d09p-33,
                               -0x1.ae7f3e733b81fp-41, 0x1.952c77030ad4ap-49};
    static const double c[] = {/* 1/4!, -1/6! ... -1/18! */
                               0x1.5555555555555p-5,  -0x1.6c16c16c16c17p-10,
                               0x1.a01a01a01a01ap-16, -0x1.27e4fb7789f5cp-22,
                               0x1.1eed8eff8d898p-29, -0x1.93974a8c07c9dp-37,
                               0x1.ae7f3e733b81fp-45, -0x1.6827863b97d97p-53};
    tp_assert(x >= -0x1p+40 && x <= 0x1p+40);
    double n = nearest(x * 0x1.45f306dc9c883p-1);
    struct pair r = reduce(x, n);
    double z = r.hi * r.hi, half = 0.5 * z;
    double sine = r.hi + (r.lo * (1 - half) + z * r.hi * polynomial(s, 8, z));
    double w = 1 - half;
    double cosine = w + (((1 - w) - half) + (z * z * polynomial(c, 8, z) - r.hi * r.lo));
    int64_t quadrant = (int64_t)n & 3;
    double a = quadrant & 1 ? cosine : sine, b = quadrant & 1 ? sine : cosine;
    *sin = quadrant & 2 ? -a : a;
    *cos = (quadrant + 1) & 2 ? -b : b;
}
