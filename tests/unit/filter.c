/* T=NAME runs only unit tests whose name holds NAME. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((constructor)) static void filter_tests(void)
{
    static char pattern[256];
    const char *name = getenv("T");
    if (name && *name) {
        snprintf(pattern, sizeof pattern, "*%s*", name);
        cmocka_set_test_filter(pattern);
    }
}
