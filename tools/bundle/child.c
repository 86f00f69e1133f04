#include "child.h"

#include "interrupt.h"
#include "io.h"
#include "mem.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static bool find_tprun(char path[IO_PATH_MAX], struct tp_error *err)
{
    char self[IO_PATH_MAX], dir[IO_PATH_MAX];
    const char *began_as = (const char *)getauxval(AT_EXECFN); /* where there is no /proc */
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0)
        self[n] = '\0';
    else if (!began_as || !realpath(began_as, self))
        return tp_fail_errno(err, "/proc/self/exe");
    snprintf(dir, sizeof dir, "%.*s", (int)(io_base_name(self) - self), self);
    if (!io_join(path, dir, "tprun", err))
        return false;
    return access(path, X_OK) == 0 ||
           tp_fail(err, TP_E_CHILD,
                   "%s: not found, the selftest needs it (--no-selftest converts without)", path);
}

/* The last line of what comes through the pipe, without its newline. A signal ends the child. */
static void last_line(int fd, pid_t pid, struct progress *progress, char *line, size_t size)
{
    enum { LOOK_MS = 100 };
    struct pollfd in = {.fd = fd, .events = POLLIN};
    size_t used = 0;
    ssize_t n = 1;
    bool fresh = false;
    char buf[512];
    while (n > 0 || (n < 0 && errno == EINTR)) {
        if (interrupt_pending())
            kill(pid, SIGKILL);
        progress_show(progress, 0);
        if (poll(&in, 1, LOOK_MS) <= 0)
            continue;
        n = read(fd, buf, sizeof buf);
        for (ssize_t i = 0; i < n; i++) {
            if (fresh)
                used = 0;
            fresh = buf[i] == '\n';
            if (!fresh && used + 1 < size)
                line[used++] = buf[i];
        }
    }
    line[used] = '\0';
}

static bool spawn(const char *const *argv, int out, int err_pipe, pid_t *pid, struct tp_error *err)
{
    posix_spawn_file_actions_t actions;
    unsetenv("TP_FAULT"); /* the hook is meant for this process */
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed) {
        errno = failed;
        return tp_fail_errno(err, "%s", argv[0]);
    }
    failed = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (!failed)
        failed = posix_spawn_file_actions_adddup2(&actions, err_pipe, STDERR_FILENO);
    if (!failed)
        failed = posix_spawn(pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    errno = failed;
    return !failed || tp_fail_errno(err, "%s", argv[0]);
}

static bool read_output(int out, uint64_t limit, char **data, size_t *n, struct tp_error *err)
{
    struct io_identity who;
    if (!io_identify(out, "tprun's output", &who, err))
        return false;
    if (who.size > limit)
        return tp_fail(err, TP_E_LIMIT, "tprun's output: %llu bytes, at most %llu are allowed",
                       (unsigned long long)who.size, (unsigned long long)limit);
    if (who.size == 0)
        return tp_fail(err, TP_E_CHILD, "tprun's output: nothing, where it ended well");
    *n = who.size;
    *data = mem_alloc(who.size + 1, err);
    if (*data && io_read_at(out, "tprun's output", *data, who.size, 0, err))
        return true;
    mem_free(*data);
    return false;
}

static bool run(const char *const *argv, int out, int pipes[2], struct progress *progress,
                struct tp_error *err)
{
    char line[TP_ERROR_LINE_MAX];
    int status = 0;
    pid_t pid;
    bool ok = spawn(argv, out, pipes[1], &pid, err);
    close(pipes[1]);
    if (!ok)
        return false;
    interrupt_child(pid);
    last_line(pipes[0], pid, progress, line, sizeof line);
    siginfo_t info; /* not reaped while a signal may still kill it */
    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
        ;
    interrupt_child(0);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (interrupt_pending() || (WIFEXITED(status) && WEXITSTATUS(status) == TP_EXIT_INTERRUPTED))
        return interrupt_fail(err); /* Ctrl-C is for both, whoever hears it first */
    bool lacks = WIFEXITED(status) && WEXITSTATUS(status) == TP_EXIT_LIMIT;
    return tp_fail(err, lacks ? TP_E_MEMORY : TP_E_CHILD, "%s ended with %s %d: %s", argv[0],
                   WIFEXITED(status) ? "status" : "signal",
                   WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), line);
}

bool child_has_tprun(struct tp_error *err)
{
    char path[IO_PATH_MAX];
    return find_tprun(path, err);
}

bool child_run_tprun(const char *const *arguments, uint64_t limit, struct progress *progress,
                     char **data, size_t *n, struct tp_error *err)
{
    enum { ARGS_MAX = 16 };
    char path[IO_PATH_MAX];
    const char *argv[ARGS_MAX + 2] = {path};
    int pipes[2];
    if (!find_tprun(path, err))
        return false;
    for (int i = 0; arguments[i] && i < ARGS_MAX; i++)
        argv[i + 1] = arguments[i];
    int out = memfd_create("tprun", MFD_CLOEXEC);
    if (out < 0)
        return tp_fail_errno(err, "memfd_create");
    bool ok = pipe2(pipes, O_CLOEXEC) == 0 || tp_fail_errno(err, "pipe");
    if (ok) {
        ok = run(argv, out, pipes, progress, err) && read_output(out, limit, data, n, err);
        close(pipes[0]);
    }
    close(out);
    return ok;
}
