/* Disk space: what an output takes, what is there of it, and what is free where it goes. */
#pragma once
#include "json.h"
#include "place.h"

#define ROOM_UNKNOWN UINT64_MAX

struct room {
    uint64_t needed; /* bytes that are not there yet */
    uint64_t free;   /* for others than root; ROOM_UNKNOWN: the file system does not say. Quotas it
                        never says */
    char dir[IO_PATH_MAX]; /* whose file system that is */
};

/* bytes: what OUTPUT.partial takes when it is fullest. What an earlier run has reserved there is
 * not needed again; the folder that --force replaces stays until the end. */
void room_look(struct room *room, const struct place *place, uint64_t bytes);
/* The same where nothing is going to be made: for -o, or for NULL the current folder. Errors those
 * of place_open. */
bool room_ask(struct room *room, const char *output, uint64_t bytes, struct tp_error *err);
/* TP_E_IO, "no space left", both numbers named. */
bool room_check(const struct room *room, const struct place *place, struct tp_error *err);
/* "PROGRAM: disk: 2.200 GB needed, 310.000 GB free in DIR" on stderr */
void room_print(const struct room *room, const char *program);
json_t *room_free_json(const struct room *room); /* null where it is not known */
/* What a file of so many bytes takes. */
uint64_t room_of_file(uint64_t bytes);
