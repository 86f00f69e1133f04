/* Where an output goes, decided before any work: the folder that its name is in, and what has that
 * name now.
 */
#pragma once
#include "folder.h"

enum { PLACE_LINKS_MAX = 40 }; /* as the kernel's */

struct place {
    struct folder parent;
    char name[256];         /* in it; "" is the root */
    char path[IO_PATH_MAX]; /* as given, or where the link that was given leads */
    char partial[264];      /* NAME.partial: where a folder is made */
    char partial_path[IO_PATH_MAX];
    struct folder_entry entry; /* what has the name; an empty folder is one too */
};

/* Links are followed to where they lead, there or not. TP_E_OUTPUT_EXISTS: the path goes through a
 * file. TP_E_IO: no such folder, a loop of links. A {.parent.fd = -1} place may be closed. */
bool place_open(struct place *place, const char *given, struct tp_error *err);
/* The same for a folder's name, where "out/" is out. */
bool place_open_folder(struct place *place, const char *given, struct tp_error *err);
void place_close(struct place *place);
/* Errors TP_E_OUTPUT_EXISTS: a folder of that name cannot be made, or replaced: a mount point, a
 * file, `input` (NULL: none) or a folder around it; and none can be made beside it, under
 * NAME.partial, for the latter. */
bool place_check_folder(const struct place *place, const char *input, struct tp_error *err);
