/* exp, log, pow, sin, cos in double, ours: never libm where bits matter, so that machines with another
 * libm agree. Only + - * / and sqrt of IEEE doubles, no fma: the same bits on every machine.
 * Error below 2 ulp in the ranges used: |x| <= 700 for exp, x > 0 for log, |x| <= 2^40 for sin and cos
 * (reduced by 2/pi in triple-double pieces). */
#pragma once

double math64_exp(double x);
double math64_log(double x);
double math64_pow(double x, double y); /* x > 0: exp(y log x) with the product's low part kept */
void math64_sincos(double x, double *sin, double *cos);
