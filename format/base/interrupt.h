/* SIGINT, SIGTERM and SIGHUP end a command with exit status 10 and one line.
 *
 * Work that can be taken up again asks interrupt_pending() between its pieces and ends in order
 * (interrupt_fail). Whatever does not ask is ended when the grace is over, and at once by a second
 * signal: every command can be killed at any instruction, so that loses no more than a kill does. A
 * system call in progress is waited for by the kernel.
 */
#pragma once
#include "error.h"
#include <stdbool.h>
#include <sys/types.h>
struct termios;

enum { INTERRUPT_GRACE_MS = 1500 };
/* From now on. grace_ms 0: the first signal ends the program. SIGHUP stays ignored where it is
 * (nohup). */
void interrupt_catch(int grace_ms);
/* What the line says; until then "interrupted". Not while another thread calls it. */
void interrupt_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool interrupt_pending(void);
const _Atomic int *interrupt_flag(void); /* the same, for who asks often: not 0 */
/* TP_E_INTERRUPTED with that text. Always false. */
bool interrupt_fail(struct tp_error *err);
/* The work is over and the program ends by itself, with this status: a signal from now on says
 * nothing, and only hurries it. */
void interrupt_off(int status);

/* What an end by signal takes with it: a child process (0: none), and names in folders; and what it
 * puts back: how the terminal was set. */
void interrupt_take_along(void);
void interrupt_child(pid_t pid);
int interrupt_add_temp(int folder,
                       const char *name); /* returns its slot, -1: there is no more room */
void interrupt_drop_temp(int slot);       /* -1 is allowed */
/* Standard input is a terminal that is set in another way now; NULL: no more. was is read later. */
void interrupt_terminal(const struct termios *was);
void interrupt_restore_terminal(void); /* may be called in a handler */
/* For a program that takes signals itself: what interrupt_pending says. */
void interrupt_note(bool pending);
