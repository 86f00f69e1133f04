/* What the machine says of this process and its memory. */
#pragma once
#include <stdint.h>

/* Seconds since this process was started; the kernel tells the start to 10 ms. */
double host_process_age(void);
/* The processor's name, as it says it; "unknown" where it does not. Returns name. */
enum { HOST_PROCESSOR_MAX = 49 };
const char *host_processor(char name[HOST_PROCESSOR_MAX]);
/* Bytes of memory that the machine has; UINT64_MAX where it does not say. */
uint64_t host_memory_total(void);
/* The least that a control group of this process may have; UINT64_MAX: no limit. */
uint64_t host_memory_group(void);
/* Bytes of memory, page cache that can be dropped included, that the machine and the cgroup have to
 * give. UINT64_MAX where they do not say. */
uint64_t host_memory_available(void);
/* Bytes this process may still allocate under RLIMIT_AS and RLIMIT_DATA; UINT64_MAX: no limit. */
uint64_t host_memory_limit(void);
/* Peak resident bytes of this process so far. */
uint64_t host_memory_peak(void);
