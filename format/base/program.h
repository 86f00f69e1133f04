/* How both programs begin and end. */
#pragma once
#include "error.h"
#include <stdbool.h>

/* First thing in main: io_start, and a stack that is large enough. A limit that can be raised is;
 * where it cannot, the program ends with TP_E_MEMORY. */
void program_start(const char *program);
/* ok: the command says that all went well. That holds if nothing of standard output is missing and
 * no allocation failed on the way. Else one error line. Returns the exit status. */
int program_end(bool ok, struct tp_error *err);
/* The end at once, from wherever: one line, whoever says it first. A bundle or file that is being
 * made is left as by a kill. */
_Noreturn void program_give_up(const struct tp_error *why);
