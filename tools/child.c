#include "child.h"

#include "io.h"
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static bool find_tprun(char path[IO_PATH_MAX], struct tp_error *err)
{
    char self[IO_PATH_MAX], dir[IO_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return tp_fail_errno(err, "/proc/self/exe");
    self[n] = '\0';
    snprintf(dir, sizeof dir, "%.*s", (int)(io_base_name(self) - self), self);
    if (!io_join(path, dir, "tprun", err))
        return false;
    return access(path, X_OK) == 0 ||
           tp_fail(err, TP_E_CHILD,
                   "%s: not found, the selftest needs it (--no-selftest converts without)", path);
}

/* The last line of what comes through the pipe, without its newline. */
static void last_line(int fd, char *line, size_t size)
{
    size_t used = 0;
    bool fresh = false;
    char buf[512];
    for (ssize_t n; (n = read(fd, buf, sizeof buf)) > 0 || (n < 0 && errno == EINTR);)
        for (ssize_t i = 0; i < n; i++) {
            if (fresh)
                used = 0;
            fresh = buf[i] == '\n';
            if (!fresh && used + 1 < size)
                line[used++] = buf[i];
        }
    line[used] = '\0';
}

bool child_run_tprun(const char *const *arguments, struct tp_error *err)
{
    enum { ARGS_MAX = 16 };
    char path[IO_PATH_MAX], line[TP_ERROR_LINE_MAX / 2];
    const char *argv[ARGS_MAX + 2] = {path};
    int pipes[2], status = 0;
    pid_t pid;
    if (!find_tprun(path, err))
        return false;
    for (int i = 0; arguments[i] && i < ARGS_MAX; i++)
        argv[i + 1] = arguments[i];
    if (pipe(pipes) != 0)
        return tp_fail_errno(err, "pipe");
    unsetenv("TP_FAULT"); /* the hook is meant for this process */
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], STDERR_FILENO);
    posix_spawn_file_actions_addclose(&actions, pipes[0]);
    int failed = posix_spawn(&pid, path, &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[1]);
    if (failed) {
        close(pipes[0]);
        errno = failed;
        return tp_fail_errno(err, "%s", path);
    }
    last_line(pipes[0], line, sizeof line);
    close(pipes[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    return tp_fail(err, TP_E_CHILD, "%s ended with %s %d: %s", path,
                   WIFEXITED(status) ? "status" : "signal",
                   WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), line);
}
