/* Linked in front of kernels_get: where this processor has no tile unit, "amx" is its rows kernels
 * over a unit of memory and plain C (tile.h), and all else plain C. */
#include "tables.h"

const struct kernels *__real_kernels_get(enum isa isa);
const struct kernels *__wrap_kernels_get(enum isa isa);

static const struct kernels rows = {ROWS_TABLE_AMX(emulated)};
static struct kernels table;

__attribute__((constructor)) static void make_table(void)
{
    table = *__real_kernels_get(ISA_SCALAR);
    table.isa = ISA_AMX;
    table.name = "amx";
    table.rows_tile = rows.rows_tile;
    table.run_panels = rows.run_panels;
    table.leaf_panels = rows.leaf_panels;
    table.rows_room = rows.rows_room;
    table.pack_rows = rows.pack_rows;
    table.rows_begin = rows.rows_begin;
    table.rows_end = rows.rows_end;
    memcpy(table.rows_worth, rows.rows_worth, sizeof table.rows_worth);
    memcpy(table.dot_rows, rows.dot_rows, sizeof table.dot_rows);
}

const struct kernels *__wrap_kernels_get(enum isa isa)
{
    const struct kernels *here = __real_kernels_get(isa);
    return here || isa != ISA_AMX ? here : &table;
}
