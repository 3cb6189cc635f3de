/* What this process may use of the machine: by its affinity, and by the limits of its control
 * groups, which is how containers and batch systems share one. */
#ifndef EQ_BASE_MACHINE_H
#define EQ_BASE_MACHINE_H

#include <stdint.h>

typedef struct eq_limits {
    int64_t processors; /* INT64_MAX: no limit; so below */
    int64_t memory;     /* bytes that are left, with those of files that are only cached */
} eq_limits;

/* The tightest limits of control groups, of version 1 or 2.
 *
 * root    in  where their file systems are mounted
 * groups  in  text of /proc/self/cgroup; paths that are not there count as their parents, which is
 *             how a container sees its own group */
eq_limits eq_group_limits(const char *root, const char *groups);

/* Processors for threads: at least 1. */
int eq_processors(void);
/* Bytes that can still be used without pushing others out; 0: unknown. */
int64_t eq_available_memory(void);
/* The bytes that a run asked to use may have: `asked`, or for 0 what eq_available_memory says. */
int64_t eq_memory_limit(int64_t asked);

#endif
