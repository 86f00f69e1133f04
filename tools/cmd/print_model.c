#include "print_model.h"

#include "shown.h"
#include <stdio.h>

typedef unsigned long long ull; /* for printf */

const char *layers_text(char buf[LAYERS_TEXT_BUF], uint64_t n, uint64_t of)
{
    if (n == of)
        snprintf(buf, LAYERS_TEXT_BUF, "%llu layer%s", (ull)n, n == 1 ? "" : "s");
    else
        snprintf(buf, LAYERS_TEXT_BUF, "first %llu of %llu layers", (ull)n, (ull)of);
    return buf;
}

void print_model(const struct model_config *m, uint64_t layers_of)
{
    char layers[LAYERS_TEXT_BUF];
    shown_put(stdout, m->architecture);
    printf(": %s, hidden %llu, %llu heads and %llu KV heads of %llu, MLP %llu, vocabulary %llu%s\n",
           layers_text(layers, m->n_layers, layers_of), (ull)m->hidden, (ull)m->n_heads,
           (ull)m->n_kv_heads, (ull)m->head_dim, (ull)m->d_ff, (ull)m->vocab,
           m->tied_embeddings ? ", tied embeddings" : "");
}
