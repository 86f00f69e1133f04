#include "cuda_library.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- is it there ---- */

static bool in_folder(const char *folder, const char *soname)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/%s", folder, soname);
    return n > 0 && (size_t)n < sizeof path && access(path, R_OK) == 0;
}

/* Folders that the loader looks into: of LD_LIBRARY_PATH, and its own. */
static bool in_search_path(const char *soname)
{
    Dl_serinfo size, *folders = NULL;
    void *self = dlopen(NULL, RTLD_LAZY);
    bool found = false;
    if (self && dlinfo(self, RTLD_DI_SERINFOSIZE, &size) == 0 &&
        (folders = malloc(size.dls_size)) != NULL) {
        *folders = size;
        if (dlinfo(self, RTLD_DI_SERINFO, folders) == 0)
            for (unsigned i = 0; i < folders->dls_cnt && !found; i++)
                found = in_folder(folders->dls_serpath[i].dls_name, soname);
    }
    free(folders);
    if (self)
        dlclose(self);
    return found;
}

/* The cache ends in strings, each with its zero; paths are among them. */
static bool in_text(const char *text, size_t size, const char *soname)
{
    char name[256];
    int n = snprintf(name, sizeof name, "/%s", soname);
    if (n <= 0 || (size_t)n >= sizeof name)
        return false;
    for (const char *at = text, *end = text + size;
         (at = memmem(at, (size_t)(end - at), name, (size_t)n + 1)) != NULL; at++) {
        const char *path = at;
        while (path > text && path[-1])
            path--;
        if (access(path, R_OK) == 0)
            return true;
    }
    return false;
}

static bool in_cache(const char *soname)
{
    int fd = open("/etc/ld.so.cache", O_RDONLY | O_CLOEXEC);
    struct stat s;
    bool found = false;
    if (fd >= 0 && fstat(fd, &s) == 0 && s.st_size > 0) {
        void *text = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (text != MAP_FAILED) {
            found = in_text(text, (size_t)s.st_size, soname);
            munmap(text, (size_t)s.st_size);
        }
    }
    if (fd >= 0)
        close(fd);
    return found;
}

bool library_there(const char *soname)
{
    return in_search_path(soname) || in_cache(soname);
}

/* ---- open ---- */

void *library_open(const char *soname, const struct library_function *functions, size_t count,
                   void *table, const char **missing)
{
    void *library = dlopen(soname, RTLD_NOW | RTLD_NODELETE);
    *missing = NULL;
    for (size_t i = 0; library && i < count; i++) {
        void *found = dlsym(library, functions[i].name);
        if (!found) {
            *missing = functions[i].name;
            dlclose(library);
            return NULL;
        }
        memcpy((char *)table + functions[i].at, &found, sizeof found);
    }
    return library;
}

void library_block_signals(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, before);
}

void library_restore_signals(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}
