/* The control groups that this process is in: what a container or a service manager allows it. */
#pragma once

/* fn for each group of a controller ("cpu", "memory"), from the process's own outwards to the root;
 * a container often sees its own as the root. folder: where its files are, below /sys/fs/cgroup; of
 * version 2 and 1 alike, so that a file of either may be missing there. */
void cgroup_each(const char *controller, void (*fn)(void *arg, const char *folder), void *arg);
