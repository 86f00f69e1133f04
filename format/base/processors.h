/* How many processors this process may use. */
#pragma once

/* Those it may be put on; fewer where a control group gives it the time of fewer (a container with
 * a quota), rounded up. At least 1. */
int processors_available(void);

/* Those of the machine that are running. */
int processors_online(void);
/* Those it may be put on. */
int processors_allowed(void);
/* Cores that those are on. */
int processors_cores(void);
/* Nodes of memory of the machine that are running. */
int processors_nodes(void);
/* How many numbers a list of the kernel's has, such as 0-3,8. */
int processors_of_list(const char *text);
/* What the quotas of its control groups come to in processors, rounded up; 0: there is none. */
int processors_quota(void);

/* The quota of a control group in processors, rounded up: of the text of cpu.max (version 2), or of
 * cpu.cfs_quota_us and cpu.cfs_period_us with a blank between (version 1). 0: there is none. */
int processors_of_quota(const char *text);
