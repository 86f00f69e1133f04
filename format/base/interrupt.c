#include "interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <termios.h>
#include <unistd.h>

enum { IDLE, PENDING, SAYING, OFF };
static _Atomic int state;
static int grace;
static struct line {
    char text[TP_ERROR_LINE_MAX];  /* for an error */
    char bytes[TP_ERROR_LINE_MAX]; /* as it is printed */
    size_t n;
} lines[2];
static _Atomic(struct line *) line; /* the one in use: the other may be written */
static _Atomic pid_t child;
enum { TEMPS = 4 };
static struct {
    _Atomic int given;
    int folder;
    char name[256];
} temps[TEMPS];
static _Atomic int off_status;
static const struct termios *_Atomic terminal;

/* Only what may be called in a handler. */
void interrupt_take_along(void)
{
    pid_t pid = child;
    if (pid > 0)
        kill(pid, SIGKILL);
    for (int i = 0; i < TEMPS; i++)
        if (temps[i].given)
            unlinkat(temps[i].folder, temps[i].name, 0);
    interrupt_restore_terminal();
}

static void say(void)
{
    const struct line *l = line;
    interrupt_take_along();
    ssize_t ignored = l ? write(STDERR_FILENO, l->bytes, l->n) : 0;
    (void)ignored;
    _exit(TP_EXIT_INTERRUPTED);
}

static void on_signal(int sig)
{
    int kept = errno, idle = IDLE, pending = PENDING;
    if (sig != SIGALRM && grace && atomic_compare_exchange_strong(&state, &idle, PENDING)) {
        struct itimerval timer = {.it_value = {grace / 1000, grace % 1000 * 1000}};
        setitimer(ITIMER_REAL, &timer, NULL);
    } else if (atomic_compare_exchange_strong(&state, &pending, SAYING)) {
        say();
    } else if (sig != SIGALRM && !grace) {
        idle = IDLE;
        if (atomic_compare_exchange_strong(&state, &idle, SAYING))
            say();
    }
    if (sig != SIGALRM && state == OFF)
        _exit(off_status);
    errno = kept;
}

void interrupt_catch(int grace_ms)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGALRM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old;
    grace = grace_ms;
    atomic_store(&state, IDLE);
    interrupt_say("interrupted");
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaddset(&action.sa_mask, signals[i]);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (signals[i] != SIGHUP ||
            (sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler != SIG_IGN))
            sigaction(signals[i], &action, NULL);
}

void interrupt_say(const char *fmt, ...)
{
    struct line *next = line == &lines[0] ? &lines[1] : &lines[0];
    struct tp_error err = {.code = TP_E_INTERRUPTED};
    va_list args;
    va_start(args, fmt);
    vsnprintf(next->text, sizeof next->text, fmt, args);
    va_end(args);
    memcpy(err.text, next->text, sizeof err.text);
    next->n = tp_error_line(next->bytes, tp_program(), &err);
    atomic_store(&line, next);
}

bool interrupt_pending(void)
{
    return atomic_load_explicit(&state, memory_order_relaxed) == PENDING;
}

const _Atomic int *interrupt_flag(void)
{
    return &state;
}

bool interrupt_fail(struct tp_error *err)
{
    const struct line *l = line;
    return tp_fail(err, TP_E_INTERRUPTED, "%s", l ? l->text : "interrupted");
}

void interrupt_off(int status)
{
    atomic_store(&off_status, status);
    int was = atomic_load(&state);
    while (was != SAYING && !atomic_compare_exchange_weak(&state, &was, OFF))
        ;
    while (was == SAYING) /* another thread is about to end the program */
        pause();
}

void interrupt_child(pid_t pid)
{
    atomic_store(&child, pid);
}

int interrupt_add_temp(int folder, const char *name)
{
    for (int i = 0; i < TEMPS; i++)
        if (!temps[i].given) {
            temps[i].folder = folder;
            snprintf(temps[i].name, sizeof temps[i].name, "%s", name);
            atomic_store(&temps[i].given, 1);
            return i;
        }
    return -1;
}

void interrupt_drop_temp(int slot)
{
    if (slot >= 0)
        atomic_store(&temps[slot].given, 0);
}

void interrupt_terminal(const struct termios *was)
{
    atomic_store(&terminal, was);
}

void interrupt_restore_terminal(void)
{
    const struct termios *was = terminal;
    if (was && tcgetpgrp(STDIN_FILENO) == getpgrp()) /* else it is somebody else's by now */
        tcsetattr(STDIN_FILENO, TCSANOW, was);
}

void interrupt_note(bool pending)
{
    atomic_store(&state, pending ? PENDING : IDLE);
}
