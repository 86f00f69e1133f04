#include "processors.h"

#include "checked.h"
#include "io.h"
#include <sched.h>
#include <stdio.h>
#include <string.h>

int processors_of_quota(const char *text)
{
    uint64_t quota, period;
    size_t n = strspn(text, "0123456789"), m;
    const char *rest = text + n + strspn(text + n, " \n");
    m = strspn(rest, "0123456789");
    if (!tp_parse_u64(text, n, &quota) || !tp_parse_u64(rest, m, &period) || quota == 0 ||
        period == 0)
        return 0;
    uint64_t whole = quota / period + (quota % period != 0);
    return whole < 1 << 20 ? (int)whole : 0;
}

static int quota_of(const char *group)
{
    char path[4096 + 64], text[128];
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
    io_kernel_text(path, text, sizeof text);
    if (!*text) {
        snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", group);
        io_kernel_text(path, text, sizeof text / 2);
        snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_period_us", group);
        io_kernel_text(path, text + strlen(text), sizeof text / 2);
    }
    return processors_of_quota(text);
}

static int less(int a, int b)
{
    return a && (!b || a < b) ? a : b;
}

/* The least of the process's group and those around it. A container often sees its own as the root
 * of all. */
static int find_quota(void)
{
    char text[4096], *line, *next = text;
    int least = quota_of("");
    io_kernel_text("/proc/self/cgroup", text, sizeof text);
    while ((line = strsep(&next, "\n")) && *line) { /* NUMBER:CONTROLLERS:GROUP */
        strsep(&line, ":");
        const char *names = strsep(&line, ":");
        if (line && (!*names || strstr(names, "cpu")))
            for (char *slash; (slash = strrchr(line, '/')); *slash = '\0')
                least = less(quota_of(line), least);
    }
    return least;
}

int processors_available(void)
{
    static _Atomic int quota = -1; /* barriers ask often */
    cpu_set_t set;
    if (quota < 0)
        quota = find_quota();
    return less(quota, sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1);
}
