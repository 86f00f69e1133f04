/* logits_nll LOGITS VOCAB: mean negative log-likelihood, in double, of the ids on stdin under an
 * f32 logits file of as many rows; an id below 0 is not scored. For tests: what `tprun logits`
 * wrote, judged apart from it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    FILE *f = fopen(argv[1], "rb");
    size_t vocab = (size_t)atol(argv[2]), n = 0;
    float *row = malloc(vocab * sizeof *row);
    if (!f || !row)
        return 1;
    double total = 0;
    for (long id; scanf("%ld", &id) == 1;) {
        if (fread(row, sizeof *row, vocab, f) != vocab)
            return 1;
        if (id < 0)
            continue;
        double top = row[0], sum = 0;
        for (size_t i = 1; i < vocab; i++)
            top = row[i] > top ? row[i] : top;
        for (size_t i = 0; i < vocab; i++)
            sum += exp(row[i] - top);
        total += top + log(sum) - row[id];
        n++;
    }
    printf("%.12f %zu\n", total / (double)n, n);
    free(row);
    return fclose(f) != 0;
}
