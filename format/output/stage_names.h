/* What the files of the staging folder share: the list of names and their proofs. */
#pragma once
#include "stage.h"

struct stage_name {
    uint64_t id;         /* of the path, from its hash */
    uint64_t bytes;      /* the first so many have the hash; 0: any file of that name is ours */
    bool whole;          /* and there are no more */
    struct hash128 hash;
    uint64_t dev, ino;   /* the file that this run made or checked; ino 0: none */
};

/* What the log is called in the folder. */
const char *stage_log_name(const struct stage *stage);
/* The names that the log lists. */
bool stage_take_names(struct stage *stage, struct tp_error *err);
/* Every name in the folder is listed; TP_E_FOREIGN otherwise. */
bool stage_check_listed(struct stage *stage, struct tp_error *err);
/* Every name but the log's is a file that this run made or checked. */
bool stage_check_held(struct stage *stage, struct tp_error *err);
/* Delete all that is listed, and the list with it; nothing, if something is not ours. */
bool stage_clear(struct stage *stage, struct tp_error *err);
