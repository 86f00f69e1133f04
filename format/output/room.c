#include "room.h"

#include "checked.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

enum { BLOCK = 4096 };

uint64_t room_of_file(uint64_t bytes)
{
    return align_up(bytes, BLOCK);
}

static uint64_t free_bytes(const struct folder *folder)
{
    struct statvfs fs;
    uint64_t bytes;
    return fstatvfs(folder->fd, &fs) == 0 && fs.f_blocks && /* else it does not say */
                   tp_mul(fs.f_bavail, fs.f_frsize, &bytes)
               ? bytes
               : ROOM_UNKNOWN;
}

/* Reserved by the files of a folder, and of raw/ in it. What cannot be read counts nothing: whoever
 * opens it says so. */
static uint64_t reserved(const struct folder *in, const char *name, int depth)
{
    struct mem_arena arena = {0};
    struct folder_names names;
    struct folder_entry entry;
    struct folder folder;
    uint64_t bytes = 0;
    if (!folder_look(in, name, &entry, NULL) || entry.kind == FOLDER_NOTHING)
        return 0;
    if (entry.kind != FOLDER_FOLDER)
        return entry.reserved;
    if (depth == 2 || !folder_enter(&folder, in, name, NULL))
        return 0;
    if (folder_read_names(&folder, &arena, &names, NULL))
        for (size_t i = 0; i < names.count; i++)
            bytes += reserved(&folder, names.list[i], depth + 1);
    mem_arena_free(&arena);
    folder_close(&folder);
    return bytes;
}

static void look(struct room *room, const struct folder *in, const char *partial, uint64_t bytes)
{
    uint64_t there = partial ? reserved(in, partial, 0) : 0;
    size_t n = strlen(in->path);
    room->needed = bytes > there ? bytes - there : 0;
    room->free = free_bytes(in);
    memcpy(room->dir, in->path, IO_PATH_MAX);
    if (n > 1 && room->dir[n - 1] == '/')
        room->dir[n - 1] = '\0';
}

void room_look(struct room *room, const struct place *place, uint64_t bytes)
{
    look(room, &place->parent, place->partial, bytes);
}

bool room_ask(struct room *room, const char *output, uint64_t bytes, struct tp_error *err)
{
    struct place place = {.parent.fd = -1};
    bool ok =
        output ? place_open_folder(&place, output, err) : folder_open(&place.parent, ".", err);
    if (ok)
        look(room, &place.parent, output ? place.partial : NULL, bytes);
    place_close(&place);
    return ok;
}

bool room_check(const struct room *room, const struct place *place, struct tp_error *err)
{
    if (room->needed <= room->free)
        return true;
    errno = ENOSPC;
    return tp_fail_errno(err, "%s: needs %llu bytes in %s, %llu are free", place->path,
                         (unsigned long long)room->needed, room->dir,
                         (unsigned long long)room->free);
}

json_t *room_free_json(const struct room *room)
{
    return room->free == ROOM_UNKNOWN ? json_null() : json_integer((json_int_t)room->free);
}

void room_print(const struct room *room, const char *program)
{
    double needed = (double)room->needed * 1e-9;
    if (room->free == ROOM_UNKNOWN)
        tp_message(program, "disk", "%.3f GB needed in %s", needed, room->dir);
    else
        tp_message(program, "disk", "%.3f GB needed, %.3f GB free in %s", needed,
                   (double)room->free * 1e-9, room->dir);
}
