#include "entry.h"
#include "sample.cuh"

ENTRY(sample_scan_rows, CUDA_THREADS, 1, cuda_sample, sample_scan)
ENTRY(sample_weigh_rows, CUDA_THREADS, 1, cuda_sample, sample_weigh)
ENTRY(sample_choose_rows, CUDA_CHOOSE_THREADS, 1, cuda_sample, sample_choose)
