#include "entry.h"
#include "hash.cuh"
#include "rows.cuh"

ENTRY(residual_norm_rows, CUDA_THREADS, 1, cuda_residual, residual_norm)
ENTRY(rope_append_rows, CUDA_THREADS, 1, cuda_rope, rope_append)
ENTRY(hash_all_chunks, 32, 16, cuda_hash, hash_chunks)
