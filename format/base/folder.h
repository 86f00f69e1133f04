/* A folder by its descriptor, and the names in it. Names are single components, never followed when
 * they are links, and nothing here replaces what has a name but folder_replace and folder_exchange,
 * which say so. What is done to a folder is done to that folder, wherever it is moved meanwhile.
 */
#pragma once
#include "io.h"
#include "mem.h"

struct folder {
    int fd;                 /* -1: closed */
    char path[IO_PATH_MAX]; /* for messages */
};

enum folder_kind { FOLDER_NOTHING, FOLDER_FILE, FOLDER_FOLDER, FOLDER_LINK, FOLDER_OTHER };
struct folder_entry {
    enum folder_kind kind;
    struct io_identity who; /* of the name itself, where there is something */
    uid_t owner;
    uint64_t reserved; /* bytes of disk that it takes */
};

/* By path, links followed. */
bool folder_open(struct folder *folder, const char *path, struct tp_error *err);
/* A folder in a folder, no link. */
bool folder_enter(struct folder *folder, const struct folder *in, const char *name,
                  struct tp_error *err);
void folder_close(struct folder *folder); /* fd -1 is allowed */
/* "folder/name" for a message, cut where it is longer. Returns buf. */
const char *folder_path(char buf[IO_PATH_MAX], const struct folder *folder, const char *name);

/* What has a name; FOLDER_NOTHING is no error. */
bool folder_look(const struct folder *folder, const char *name, struct folder_entry *entry,
                 struct tp_error *err);
/* The name leads to what the descriptor is open on. */
bool folder_leads_to(const struct folder *folder, const char *name, int fd);
/* Something is mounted there. */
bool folder_is_mount(const struct folder *folder, const char *name);
/* Call fn for every name but "." and "..", in no particular order. */
bool folder_list(const struct folder *folder, void (*fn)(void *arg, const char *name), void *arg,
                 struct tp_error *err);
bool folder_list_path(const char *path, void (*fn)(void *arg, const char *name), void *arg,
                      struct tp_error *err);

/* The names, sorted; in the arena. */
struct folder_names {
    const char **list;
    size_t count, cap;
};
bool folder_read_names(const struct folder *folder, struct mem_arena *arena,
                       struct folder_names *names, struct tp_error *err);
/* Its permissions; what set-group-ID and the like it has stays. */
bool folder_set_mode(const struct folder *folder, mode_t mode, struct tp_error *err);
mode_t folder_umask(void); /* where no other thread makes files */

/* Make a file anew (O_EXCL), of exactly that mode, for reading and writing; where no other thread
 * makes files. TP_E_FOREIGN: the name is taken. */
int folder_create(const struct folder *folder, const char *name, mode_t mode, struct tp_error *err);
/* A regular file that is there; flags as open's. */
int folder_open_file(const struct folder *folder, const char *name, int flags,
                     struct io_identity *who, struct tp_error *err);
/* A second descriptor of a file open for writing that goes past the page cache, -1 where the file
 * system has none: no error. */
int folder_open_direct(const struct folder *folder, const char *name);
/* A file without a name, mode 0666 less umask, of which a kill leaves nothing; *fd -1 where the
 * file system has none: no error. */
bool folder_unnamed(const struct folder *folder, int *fd, struct tp_error *err);
/* Give it one. TP_E_FOREIGN: the name is taken. */
bool folder_link(const struct folder *folder, int fd, const char *name, struct tp_error *err);
/* Give a file a name that may be another file's: from `by`, its name so far, or, for one without
 * (fd), which it has in between. TP_E_FOREIGN: what is there is no file. */
bool folder_put(const struct folder *folder, int fd, const char *by, const char *name,
                struct tp_error *err);

/* Mode 0700, whatever the umask; where no other thread makes files. */
bool folder_mkdir(const struct folder *folder, const char *name, struct tp_error *err);
bool folder_unlink(const struct folder *folder, const char *name, struct tp_error *err);
bool folder_rmdir(const struct folder *folder, const char *name, struct tp_error *err);
/* Rename to a free name. TP_E_FOREIGN: it is taken. */
bool folder_move(const struct folder *from, const char *name, const struct folder *to,
                 const char *to_name, struct tp_error *err);
/* Rename over what is there: a file over another, a folder over an empty folder. TP_E_FOREIGN: it
 * is neither. */
bool folder_replace(const struct folder *folder, const char *name, const char *over,
                    struct tp_error *err);
/* Exchange two names in one step; TP_E_IO where the file system cannot. */
bool folder_exchange(const struct folder *folder, const char *a, const char *b,
                     struct tp_error *err);
bool folder_sync(const struct folder *folder, struct tp_error *err);
