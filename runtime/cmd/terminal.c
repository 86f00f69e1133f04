#include "terminal.h"

#include "interrupt.h"
#include <errno.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

static bool hushes;
static struct termios usual, hushed;
static const int signals[] = {SIGTSTP, SIGQUIT};
enum { SIGNALS = sizeof signals / sizeof *signals };
static struct sigaction others[SIGNALS];

/* Ctrl-Z and Ctrl-\ do what they do elsewhere, at a terminal that is as it was. */
static void on_signal(int number)
{
    int kept = errno;
    interrupt_restore_terminal();
    if (number != SIGTSTP) {
        signal(number, SIG_DFL);
        raise(number);
        errno = kept;
        return;
    }
    raise(SIGSTOP);
    if (tcgetpgrp(STDIN_FILENO) == getpgrp())
        tcsetattr(STDIN_FILENO, TCSANOW, &hushed);
    errno = kept;
}

void terminal_hush(bool by_key)
{
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    hushes = tcgetattr(STDIN_FILENO, &usual) == 0;
    if (!hushes)
        return;
    hushed = usual;
    hushed.c_lflag &= ~(tcflag_t)(by_key ? ECHO | ICANON : ECHO);
    hushed.c_cc[VMIN] = 1;
    hushed.c_cc[VTIME] = 0;
    interrupt_terminal(&usual);
    for (int i = 0; i < SIGNALS; i++) {
        sigaction(signals[i], NULL, &others[i]);
        if (others[i].sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    }
    tcsetattr(STDIN_FILENO, TCSANOW, &hushed);
}

void terminal_unhush(void)
{
    if (!hushes)
        return;
    tcsetattr(STDIN_FILENO, TCSANOW, &usual);
    for (int i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &others[i], NULL);
    interrupt_terminal(NULL);
}
