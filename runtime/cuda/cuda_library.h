/* Libraries that are opened at run time, by declarations of our own: one build serves machines with
 * and without them. */
#pragma once
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

struct library_function {
    const char *name;
    size_t at; /* of its pointer, in a table of the caller's */
};

/* Does the loader find a library of this name (LD_LIBRARY_PATH, the system's folders,
 * ld.so.cache)? It is not opened: some have hundreds of megabytes. */
bool library_there(const char *soname);
/* Open it and find every function. NULL: it cannot be opened, or, with *missing set, has no
 * function of that name. It stays in memory: threads that used it have things of its own that end
 * with them. */
void *library_open(const char *soname, const struct library_function *functions, size_t count,
                   void *table, const char **missing);
/* Around what starts a library's own threads: those leave signals to the thread that drives the
 * command. */
void library_block_signals(sigset_t *before);
void library_restore_signals(const sigset_t *before);
