#include "host.h"

#include "cgroup.h"
#include "checked.h"
#include "io.h"
#include <cpuid.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* The number after `key` and blanks, 0 where there is none. */
static uint64_t number_after(const char *text, const char *key)
{
    uint64_t value = 0;
    const char *at = strstr(text, key);
    if (at) {
        at += strlen(key);
        at += strspn(at, " \t");
        tp_parse_u64(at, strspn(at, "0123456789"), &value);
    }
    return value;
}

const char *host_processor(char name[HOST_PROCESSOR_MAX])
{
    unsigned words[12] = {0}, highest = (unsigned)__get_cpuid_max(0x80000000, NULL);
    for (unsigned i = 0; i < 3 && highest >= 0x80000004; i++)
        __get_cpuid(0x80000002 + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                    &words[4 * i + 3]);
    char text[HOST_PROCESSOR_MAX] = "", *first = text;
    memcpy(text, words, sizeof words);
    first += strspn(first, " ");
    for (char *end = strchr(first, '\0'); end > first && end[-1] == ' ';)
        *--end = '\0';
    return strcpy(name, *first ? first : "unknown");
}

double host_process_age(void)
{
    char buf[1024];
    const char *at = strrchr(io_kernel_text("/proc/self/stat", buf, sizeof buf), ')');
    for (int field = 2; at && field < 22; field++) /* 22: start time in clock ticks since boot */
        at = strchr(at + 1, ' ');
    uint64_t ticks;
    if (!at || !tp_parse_u64(at + 1, strspn(at + 1, "0123456789"), &ticks))
        return 0;
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    double age = (double)now.tv_sec + (double)now.tv_nsec * 1e-9 -
                 (double)ticks / (double)sysconf(_SC_CLK_TCK);
    return age > 0 ? age : 0;
}

static uint64_t limit_left(int resource, uint64_t used)
{
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return limit.rlim_cur > used ? limit.rlim_cur - used : 0;
}

/* What a group uses now may be page cache, which it can give back. */
static void look_at_group(void *arg, const char *folder)
{
    static const char *const files[] = {"memory.max", "memory.limit_in_bytes"};
    uint64_t *least = arg;
    char path[4096 + 128], buf[64];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        uint64_t most = number_after(io_kernel_text(path, buf, sizeof buf), "");
        if (most)
            *least = min_u64(*least, most);
    }
}

/* A line of /proc/meminfo in bytes; UINT64_MAX where it is missing. */
static uint64_t memory_line(const char *key)
{
    char buf[4096];
    uint64_t kib = number_after(io_kernel_text("/proc/meminfo", buf, sizeof buf), key);
    return kib ? kib * 1024 : UINT64_MAX;
}

uint64_t host_memory_total(void)
{
    return memory_line("MemTotal:");
}

uint64_t host_memory_group(void)
{
    uint64_t least = UINT64_MAX;
    cgroup_each("memory", look_at_group, &least);
    return least < UINT64_C(1) << 62 ? least : UINT64_MAX; /* version 1 has a number for none */
}

uint64_t host_memory_available(void)
{
    return min_u64(memory_line("MemAvailable:"), host_memory_group());
}

uint64_t host_memory_limit(void)
{
    char buf[4096];
    io_kernel_text("/proc/self/status", buf, sizeof buf);
    uint64_t space = limit_left(RLIMIT_AS, number_after(buf, "VmSize:") * 1024);
    return min_u64(space, limit_left(RLIMIT_DATA, number_after(buf, "VmData:") * 1024));
}

uint64_t host_memory_peak(void)
{
    char buf[4096];
    return number_after(io_kernel_text("/proc/self/status", buf, sizeof buf), "VmHWM:") * 1024;
}
