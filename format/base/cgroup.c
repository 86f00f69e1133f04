#include "cgroup.h"

#include "io.h"
#include <stdio.h>
#include <string.h>

enum { TEXT = 4096 };

static void each_of(const char *root, char *group, void (*fn)(void *arg, const char *folder),
                    void *arg)
{
    char folder[TEXT + 64];
    for (char *slash; (slash = strrchr(group, '/')); *slash = '\0')
        if (slash[1] || slash != group) { /* "/" is the root */
            snprintf(folder, sizeof folder, "%s%s", root, group);
            fn(arg, folder);
        }
    fn(arg, root);
}

void cgroup_each(const char *controller, void (*fn)(void *arg, const char *folder), void *arg)
{
    char text[TEXT], root[64], *line, *next = text;
    io_kernel_text("/proc/self/cgroup", text, sizeof text);
    while ((line = strsep(&next, "\n")) && *line) { /* NUMBER:CONTROLLERS:GROUP */
        strsep(&line, ":");
        const char *names = strsep(&line, ":");
        if (!line || (*names && !strstr(names, controller)))
            continue;
        snprintf(root, sizeof root, *names ? "/sys/fs/cgroup/%s" : "/sys/fs/cgroup", controller);
        each_of(root, line, fn, arg);
    }
}
