#include "processors.h"

#include "cgroup.h"
#include "checked.h"
#include "io.h"
#include <sched.h>
#include <unistd.h>
#include <stdio.h>
#include <stdlib.h>
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

static int less(int a, int b)
{
    return a && (!b || a < b) ? a : b;
}

static void look_at(void *arg, const char *folder)
{
    int *least = arg;
    char path[4096 + 128], text[128];
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    io_kernel_text(path, text, sizeof text);
    if (!*text) {
        snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
        io_kernel_text(path, text, sizeof text / 2);
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
        io_kernel_text(path, text + strlen(text), sizeof text / 2);
    }
    *least = less(processors_of_quota(text), *least);
}

int processors_online(void)
{
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

int processors_allowed(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

int processors_cores(void)
{
    cpu_set_t set, cores;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    CPU_ZERO(&cores);
    for (size_t i = 0; i < CPU_SETSIZE; i++) {
        char path[96], text[512];
        if (!CPU_ISSET(i, &set))
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list",
                 i);
        io_kernel_text(path, text, sizeof text);
        CPU_SET(*text ? (size_t)atoi(text) : i,
                &cores); /* the first of its siblings stands for a core */
    }
    return CPU_COUNT(&cores);
}

int processors_of_list(const char *text)
{
    int count = 0;
    for (const char *at = text; *at >= '0' && *at <= '9';) {
        char *end;
        long first = strtol(at, &end, 10), last = *end == '-' ? strtol(end + 1, &end, 10) : first;
        count += last < first ? 0 : (int)(last - first) + 1;
        at = *end == ',' ? end + 1 : "";
    }
    return count;
}

int processors_nodes(void)
{
    char text[512];
    int count =
        processors_of_list(io_kernel_text("/sys/devices/system/node/online", text, sizeof text));
    return count > 0 ? count : 1;
}

int processors_quota(void)
{
    static _Atomic int quota = -1; /* barriers ask often */
    if (quota < 0) {
        int least = 0;
        cgroup_each("cpu", look_at, &least);
        quota = least;
    }
    return quota;
}

int processors_available(void)
{
    return less(processors_quota(), processors_allowed());
}
