#include "finish.h"

#include "interrupt.h"
#include "io.h"
#include "mem.h"

int finish(const char *program, bool ok, struct tp_error *err)
{
    ok = ok && mem_held(err);
    ok = io_flush_stdout(ok ? err : NULL) && ok;
    if (!ok)
        return tp_error_print(program, err);
    interrupt_off(TP_EXIT_OK);
    return TP_EXIT_OK;
}
