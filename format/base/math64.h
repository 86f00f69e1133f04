/* exp, log, pow, sin, cos in double, ours: never libm where bits matter, so that machines with
 * another libm agree. Only + - * / of IEEE doubles rounded to nearest, no fma: the same bits on
 * every machine. Error below 1 ulp in the ranges used: |x| <= 700 for exp, x > 0 for log, |x| <=
 * 2^40 for sin and cos.
 *
 * Source: the Taylor series of exp, sin, cos and 2 atanh(s), s = (m-1)/(m+1), cut off where the
 * next term is below 2^-58 of the result; what is larger than the last bit is carried in a second
 * double by the exact sum and product of Knuth and Dekker (T. J. Dekker, A floating-point technique
 * for extending the available precision, 1971). Angles are reduced by pi/2 in three doubles (W. J.
 * Cody, W. Waite, 1980).
 */
#pragma once

double math64_exp(double x);           /* +0 below -708, infinity above 709, NaN stays */
double math64_log(double x);           /* x > 0 and finite, asserted */
double math64_pow(double x, double y); /* x > 0: exp(y log x), log x to 2^-64 of its value */
void math64_sincos(double x, double *sin, double *cos); /* |x| <= 2^40, asserted */
