/* What the files of the staging folder share: the list of names and their proofs. */
#pragma once
#include "stage.h"

struct stage_name {
    uint64_t id; /* of the path, from its hash */
    enum stage_proof proof;
    uint64_t bytes; /* of it, that have the hash */
    struct hash128 hash;
    bool held, grows;       /* this run made or checked it; it is a log */
    struct io_identity who; /* what it was then */
};

/* What the log is called in the folder. */
const char *stage_log_name(const struct stage *stage);
/* The names that the log lists. */
bool stage_take_names(struct stage *stage, struct tp_error *err);
/* Every name in the folder is listed; TP_E_FOREIGN otherwise. */
bool stage_check_listed(struct stage *stage, struct tp_error *err);
/* Every name but the log's is a file that this run made or checked. */
bool stage_check_held(const struct stage *stage, struct tp_error *err);
/* Delete all that is listed, and the list with it; nothing, if something is not ours. */
bool stage_clear(struct stage *stage, struct tp_error *err);
