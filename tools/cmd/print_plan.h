/* The plan of a conversion, printed: what --dry-run shows. */
#pragma once
#include "rank_plan.h"
#include "room.h"

/* Every tensor of every rank with range, dtype, layout, size and place on stdout, then totals; or
 * as JSON, where room is what it says of the disk. */
bool print_plan(const struct model_config *model, struct recipe recipe, uint64_t tp_size,
                const struct room *room, bool json, struct tp_error *err);
