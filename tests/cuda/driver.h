/* What the stand-ins of other libraries ask of the emulated driver. */
#pragma once
#define _Noreturn [[noreturn]] /* C, to C++ */
extern "C" {
#include "cuda_api.h"
}
#include <functional>

/* Counts a call as one of the driver's own; not 0: it is to fail (EMUL_FAIL). */
unsigned emul_enter();
/* Do all these bytes belong to one allocation of the device's memory? */
bool emul_owns(const void *p, size_t bytes);
/* Runs in the stream's order, when it is waited for, with what kernels before it wrote. */
void emul_put(cu_stream stream, std::function<void()> f);
