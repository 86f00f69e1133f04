#include "fault.h"

#include "checked.h"
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const call_names[FAULT_CALLS] = {
    "open",     "create", "read",  "write",  "reserve", "sync",  "close",
    "sync_dir", "rename", "mkdir", "unlink", "map",     "direct"};

enum { UNREAD, NONE, COUNT, KILL, STOP, SHORT, ERRNO }; /* ERRNO + e: fails with errno e */
static const struct {
    const char *name;
    int action;
    /* clang-format off */
} actions[] = {
    {"kill:", KILL}, {"stop:", STOP}, {"short:", SHORT},
    {"eintr:", ERRNO + EINTR}, {"eio:", ERRNO + EIO}, {"enospc:", ERRNO + ENOSPC},
    {"edquot:", ERRNO + EDQUOT}, {"efbig:", ERRNO + EFBIG}, {"emfile:", ERRNO + EMFILE},
    {"eacces:", ERRNO + EACCES}, {"erofs:", ERRNO + EROFS}, {"estale:", ERRNO + ESTALE},
    {"enametoolong:", ERRNO + ENAMETOOLONG}, {"eisdir:", ERRNO + EISDIR},
    {"exdev:", ERRNO + EXDEV}, {"eexist:", ERRNO + EEXIST}, {"einval:", ERRNO + EINVAL},
};
/* clang-format on */

static struct {
    _Atomic int action;
    int kind; /* FAULT_CALLS: any */
    uint64_t at;
    _Atomic uint64_t count;
    _Atomic uint64_t kinds[FAULT_CALLS];
} fault;

static void print_counts(void)
{
    fprintf(stderr, "io calls: %llu\n", (unsigned long long)fault.count);
    for (int i = 0; i < FAULT_CALLS; i++)
        if (fault.kinds[i])
            fprintf(stderr, "io call: %s %llu\n", call_names[i],
                    (unsigned long long)fault.kinds[i]);
}

/* "[KIND:]K" after the action's name */
static bool read_place(const char *text)
{
    const char *colon = strchr(text, ':');
    fault.kind = FAULT_CALLS;
    for (int i = 0; colon && i < FAULT_CALLS; i++)
        if (strncmp(text, call_names[i], (size_t)(colon - text)) == 0 &&
            call_names[i][colon - text] == '\0')
            fault.kind = i;
    if (colon && fault.kind == FAULT_CALLS)
        return false;
    text = colon ? colon + 1 : text;
    return tp_parse_u64(text, strlen(text), &fault.at);
}

static int read_action(void)
{
    const char *text = getenv("TP_FAULT");
    int action = NONE;
    if (text && strcmp(text, "count") == 0) {
        action = COUNT;
        atexit(print_counts);
    }
    for (size_t i = 0; text && i < sizeof actions / sizeof *actions; i++) {
        size_t n = strlen(actions[i].name);
        if (strncmp(text, actions[i].name, n) == 0 && read_place(text + n))
            action = actions[i].action;
    }
    atomic_store(&fault.action, action);
    return action;
}

bool fault_hits(enum fault_call call, size_t *n)
{
    int action = atomic_load_explicit(&fault.action, memory_order_relaxed);
    if (action == UNREAD)
        action = read_action();
    if (action == NONE)
        return false;
    uint64_t of_kind = atomic_fetch_add(&fault.kinds[call], 1) + 1;
    uint64_t of_all = atomic_fetch_add(&fault.count, 1) + 1;
    bool of_any = fault.kind == FAULT_CALLS;
    if (!of_any && (int)call != fault.kind)
        return false;
    if ((of_any ? of_all : of_kind) != fault.at)
        return false;
    if (action == KILL)
        raise(SIGKILL);
    if (action == STOP)
        raise(SIGSTOP);
    if (action == SHORT && n && *n > 1)
        --*n;
    if (action > ERRNO)
        errno = action - ERRNO;
    return action > ERRNO;
}
