#include "print_plan.h"

#include "commands.h"
#include "json.h"
#include <stdio.h>
#include <stdlib.h>

static void print_text(const struct rank_plan *plan)
{
    char name[TENSOR_NAME_MAX], file[RANK_FILE_NAME_MAX];
    printf("%s: %u tensors, %u chunks, data at %llu, %llu bytes in all\n",
           rank_file_name(file, plan->partition.rank, plan->partition.tp_size), plan->n_tensors,
           plan->n_chunks, (unsigned long long)plan->data_offset,
           (unsigned long long)(plan->data_offset + plan->data_bytes));
    for (uint32_t i = 0; i < plan->n_tensors; i++) {
        const struct tensor *t = &plan->tensors[i];
        printf("  %-52s %-14s rows %llu..%llu of %llu, columns %llu..%llu of %llu, at %llu, %llu "
               "bytes\n",
               tensor_name(name, t->role, t->layer, t->part), t->stored->name,
               (unsigned long long)t->own_rows.begin, (unsigned long long)t->own_rows.end,
               (unsigned long long)t->rows, (unsigned long long)t->own_cols.begin,
               (unsigned long long)t->own_cols.end, (unsigned long long)t->cols,
               (unsigned long long)t->offset, (unsigned long long)t->bytes);
    }
}

static json_t *rank_json(const struct rank_plan *plan)
{
    char name[TENSOR_NAME_MAX], file[RANK_FILE_NAME_MAX];
    json_t *tensors = json_array();
    for (uint32_t i = 0; i < plan->n_tensors; i++) {
        const struct tensor *t = &plan->tensors[i];
        json_array_append_new(
            tensors, json_pack("{s:s, s:s, s:[I,I], s:[I,I], s:[I,I], s:i, s:I, s:I}", "name",
                               tensor_name(name, t->role, t->layer, t->part), "dtype",
                               t->stored->name, "shape", (json_int_t)t->rows, (json_int_t)t->cols,
                               "rows", (json_int_t)t->own_rows.begin, (json_int_t)t->own_rows.end,
                               "cols", (json_int_t)t->own_cols.begin, (json_int_t)t->own_cols.end,
                               "layout", (int)t->layout, "offset", (json_int_t)t->offset, "bytes",
                               (json_int_t)t->bytes));
    }
    return json_pack("{s:s, s:I, s:I, s:o}", "file",
                     rank_file_name(file, plan->partition.rank, plan->partition.tp_size),
                     "data_offset", (json_int_t)plan->data_offset, "bytes",
                     (json_int_t)(plan->data_offset + plan->data_bytes), "tensors", tensors);
}

bool print_plan(const struct model_config *model, struct recipe recipe, uint64_t tp_size,
                const struct room *room, bool json, struct tp_error *err)
{
    uint64_t total = 0;
    json_t *ranks = json ? json_array() : NULL;
    for (uint64_t r = 0; r < tp_size; r++) {
        struct rank_plan plan;
        if (!rank_plan_build(model, recipe, tp_size, r, &plan, err)) {
            json_decref(ranks);
            return false;
        }
        total += plan.data_offset + plan.data_bytes;
        if (json)
            json_array_append_new(ranks, rank_json(&plan));
        else
            print_text(&plan);
        rank_plan_free(&plan);
    }
    if (!json) {
        printf("%llu rank file%s, %llu bytes; nothing was written\n", (unsigned long long)tp_size,
               tp_size == 1 ? "" : "s", (unsigned long long)total);
        return true;
    }
    json_t *root = json_pack("{s:i, s:I, s:I, s:I, s:o, s:o}", "schema", JSON_SCHEMA, "tp_size",
                             (json_int_t)tp_size, "bytes", (json_int_t)total, "disk_needed_bytes",
                             (json_int_t)room->needed, "disk_free_bytes", room_free_json(room),
                             "ranks", ranks);
    return json_print(root, err);
}
