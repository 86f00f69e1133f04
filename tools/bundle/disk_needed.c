#include "disk_needed.h"

#include "checked.h"
#include "journal.h"
#include "room.h"

/* A rank file of frames that zstd could not make smaller. */
static uint64_t frames_bytes(const struct rank_plan *plan)
{
    uint64_t bytes = plan->data_offset;
    for (uint32_t i = 0; i < plan->n_tensors; i++)
        for (uint32_t c = 0; c < plan->tensors[i].n_chunks; c++)
            bytes += shard_compress_bound(tensor_chunk_bytes(&plan->tensors[i], c));
    return room_of_file(bytes);
}

/* All raw files at first; then, one after the other, each beside its frames, and gone. */
static uint64_t rank_files_bytes(const struct bundle *b)
{
    uint64_t held = 0, most;
    for (uint64_t r = 0; r < b->tp_size; r++)
        held += b->plans[r].data_offset + b->plans[r].data_bytes;
    most = held;
    for (uint64_t r = 0; b->compress && r < b->tp_size; r++) {
        held += frames_bytes(&b->plans[r]);
        most = max_u64(most, held);
        held -= b->plans[r].data_offset + b->plans[r].data_bytes;
    }
    return most;
}

uint64_t disk_needed(const struct bundle *bundle, const struct source *source,
                     uint64_t manifest_bytes, bool selftest)
{
    enum { FOLDERS = 16 << 10, POSITION = 512, LAYER = 160, POSITIONS = 48 }; /* of selftest.json */
    uint64_t records = 0, bytes = rank_files_bytes(bundle) + room_of_file(manifest_bytes) + FOLDERS;
    for (uint64_t r = 0; r < bundle->tp_size; r++)
        records += bundle->plans[r].n_chunks;
    for (uint32_t i = 0; i < source->whole->n_tensors; i++)
        records += source_pieces(source, i);
    for (uint32_t i = 0; i < bundle->n_files; i++)
        bytes += room_of_file(bundle->files[i].bytes);
    if (selftest)
        bytes += room_of_file(POSITIONS * POSITION + bundle->model.n_layers * LAYER);
    return bytes + room_of_file(records * JOURNAL_RECORD);
}
