#include "trace.h"

#include "io.h"
#include <stdio.h>

bool trace_init(struct trace *trace, uint64_t n_sequences, uint64_t n_layers, uint64_t hidden,
                struct tp_error *err)
{
    uint64_t n = n_sequences * (n_layers + 1);
    *trace = (struct trace){.n_sequences = n_sequences, .n_layers = n_layers, .hidden = hidden};
    trace->streams = mem_map_alloc(n * sizeof *trace->streams, err);
    trace->row = mem_array(hidden, sizeof *trace->row, err);
    if (!trace->streams || !trace->row) {
        trace_free(trace);
        return false;
    }
    for (uint64_t i = 0; i < n; i++)
        hash_start(&trace->streams[i]);
    return true;
}

void trace_free(struct trace *trace)
{
    if (trace->streams)
        mem_map_free(trace->streams,
                     trace->n_sequences * (trace->n_layers + 1) * sizeof *trace->streams);
    mem_free(trace->row);
    *trace = (struct trace){0};
}

void trace_add(struct trace *trace, uint64_t sequence, uint64_t layer, const float *row)
{
    hash_add(&trace->streams[sequence * (trace->n_layers + 1) + layer], row,
             trace->hidden * sizeof *row);
}

struct hash128 trace_hash(const struct trace *trace, uint64_t sequence, uint64_t layer)
{
    return hash_end(&trace->streams[sequence * (trace->n_layers + 1) + layer]);
}

bool trace_write(const struct trace *trace, struct output_file *file, struct tp_error *err)
{
    enum { LINE_MAX_BYTES = 80 };
    char hex[33], *text, *end;
    text = end = mem_array(trace->n_sequences * (trace->n_layers + 1), LINE_MAX_BYTES, err);
    if (!text)
        return false;
    for (uint64_t s = 0; s < trace->n_sequences; s++) {
        for (uint64_t layer = 0; layer < trace->n_layers; layer++) {
            hash_to_hex(trace_hash(trace, s, layer), hex);
            end += snprintf(end, LINE_MAX_BYTES, "%llu %llu %s\n", (unsigned long long)s,
                            (unsigned long long)layer, hex);
        }
        hash_to_hex(trace_hash(trace, s, trace->n_layers), hex);
        end += snprintf(end, LINE_MAX_BYTES, "%llu final %s\n", (unsigned long long)s, hex);
    }
    bool ok = output_file_write(file, text, (size_t)(end - text), err);
    mem_free(text);
    return ok;
}
