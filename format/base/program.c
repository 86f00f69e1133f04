#include "program.h"

#include "interrupt.h"
#include "io.h"
#include "mem.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { STACK_KIB = 256 }; /* paths and error lines are kept there */

static bool have_stack(struct tp_error *err)
{
    struct rlimit limit;
    const rlim_t wanted = STACK_KIB << 10;
    if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= wanted)
        return true;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (limit.rlim_cur == wanted && setrlimit(RLIMIT_STACK, &limit) == 0)
        return true;
    return tp_fail(err, TP_E_MEMORY, "a stack of %d KiB is needed, the limit is %llu (ulimit -s)",
                   STACK_KIB, (unsigned long long)limit.rlim_max >> 10);
}

void program_start(const char *program)
{
    struct tp_error err = {0};
    tp_set_program(program);
    io_start();
    if (!have_stack(&err))
        exit(tp_error_print(program, &err));
}

int program_end(bool ok, struct tp_error *err)
{
    ok = ok && mem_held(err);
    ok = io_flush_stdout(ok ? err : NULL) && ok;
    if (!ok)
        return tp_error_print(tp_program(), err);
    interrupt_off(TP_EXIT_OK);
    return TP_EXIT_OK;
}

_Noreturn void program_give_up(const struct tp_error *why)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&said)) {
        interrupt_take_along();
        _exit(tp_error_print(tp_program(), why));
    }
    for (;;)
        pause();
}
