/* A bundle against the checkpoint it should have come from: the travelling files, the model, every
 * value. */
#pragma once
#include "model_folder.h"
#include "pack.h"
#include "source_bundle.h"

struct against {
    const struct source_bundle *bundle;
    struct model_folder folder;
};
/* Open the folder with the bundle's recipe, and compare what is not in rank files. options: ignored
 * keys. Errors: TP_E_VALUE_DIFFERS naming the file or field, and those of model_folder_open. */
bool against_open(struct against *a, const struct source_bundle *bundle, const char *dir,
                  const struct options *options, struct tp_error *err);
void against_close(struct against *a); /* {0} is allowed */
/* Scales of quantized rows, as convert finds them; before any against_chunk. */
bool against_prepare(struct against *a, int threads, struct tp_error *err);
/* Bytes of a thread's `space` for against_chunk. */
uint64_t against_space_bytes(const struct against *a);
/* raw: chunk c of tensor `index` of a rank, as stored. It is packed again from the checkpoint into
 * `again`; the first value that differs is TP_E_VALUE_DIFFERS with file, tensor, row and column. */
bool against_chunk(const struct against *a, uint64_t rank, uint32_t index, uint32_t c,
                   const unsigned char *raw, unsigned char *space, unsigned char *again,
                   struct tp_error *err);
