/* Passes over the vocabulary for the sampler (docs/numerics.md section 10): part of ops.inc.h,
 * compiled for each instruction set. Sums have 32 chains by definition, so that registers of any
 * width give the same bits.
 */

enum { CHAINS = 32 };

static bool sample_scan(const float *x, size_t n, float *max)
{
    float most[CHAINS];
    int bad = 0;
    for (size_t c = 0; c < CHAINS; c++)
        most[c] = -INFINITY;
    size_t i = 0;
    for (; i + CHAINS <= n; i += CHAINS)
        for (size_t c = 0; c < CHAINS; c++) {
            bad |= !(x[i + c] < INFINITY);
            most[c] = x[i + c] > most[c] ? x[i + c] : most[c];
        }
    for (size_t c = 0; i < n; i++, c++) {
        bad |= !(x[i] < INFINITY);
        most[c] = x[i] > most[c] ? x[i] : most[c];
    }
    for (size_t c = 1; c < CHAINS; c++)
        most[0] = most[c] > most[0] ? most[c] : most[0];
    *max = most[0];
    return !bad;
}

static void sample_weights(const float *x, size_t n, float temperature, float max, float *scaled,
                           float *w)
{
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        scaled[i] = x[i] / temperature;
        w[i] = exp_f32(scaled[i] - max);
    }
}

static inline float kept_weight(const float *x, const float *w, size_t i, struct sample_cut cut)
{
    bool kept = (x[i] > cut.x || (x[i] == cut.x && (uint32_t)i <= cut.id)) && w[i] >= cut.weight;
    return kept ? w[i] : 0.0f;
}

static double fold_chains(double chain[CHAINS])
{
    for (size_t half = CHAINS / 2; half; half /= 2)
        for (size_t c = 0; c < half; c++)
            chain[c] = chain[c] + chain[c + half];
    return chain[0];
}

static void sample_sums(const float *x, const float *w, size_t n, struct sample_cut cut,
                        double *sums)
{
    for (size_t at = 0; at < n; at += SAMPLE_CHUNK) {
        double chain[CHAINS] = {0};
        size_t end = at + SAMPLE_CHUNK < n ? at + SAMPLE_CHUNK : n, i = at;
        for (; i + CHAINS <= end; i += CHAINS)
            for (size_t c = 0; c < CHAINS; c++)
                chain[c] = chain[c] + (double)kept_weight(x, w, i + c, cut);
        for (size_t c = 0; i < end; i++, c++)
            chain[c] = chain[c] + (double)kept_weight(x, w, i, cut);
        *sums++ = fold_chains(chain);
    }
}

/* Bins of falling x; what is beyond the last one is in it. Monotonous: a bin holds all x of a
 * stretch. */
static inline int32_t bin_of(float x, float max, float scale)
{
    float bin = (max - x) * scale;
    return (int32_t)(bin < (float)(SAMPLE_BINS - 1) ? bin : (float)(SAMPLE_BINS - 1));
}

/* How many of 32 ids are not in the last bin. */
static inline int bins_of(const float *x, float max, float scale, int32_t bin[CHAINS])
{
    int near = 0;
    for (size_t c = 0; c < CHAINS; c++) {
        bin[c] = bin_of(x[c], max, scale);
        near += bin[c] < SAMPLE_BINS - 1;
    }
    return near;
}

/* Ids that follow each other go to different tables, and in the last bin, where most are, to
 * different rows: no addition waits for the one before. */
static void sample_histogram(const float *x, const float *w, size_t n, float max, float scale,
                             double (*mass)[SAMPLE_TABLES])
{
    int32_t bin[CHAINS];
    size_t at = 0;
    for (; at + CHAINS <= n; at += CHAINS) {
        if (bins_of(x + at, max, scale, bin) == 0)
            continue;
        for (int32_t c = 0; c < CHAINS; c++)
            bin[c] += bin[c] == SAMPLE_BINS - 1 ? c / SAMPLE_TABLES : 0;
        if (w)
            for (size_t c = 0; c < CHAINS; c++)
                mass[bin[c]][c % SAMPLE_TABLES] += (double)w[at + c];
        else
            for (size_t c = 0; c < CHAINS; c++)
                mass[bin[c]][c % SAMPLE_TABLES] += 1;
    }
    for (; at < n; at++)
        mass[bin_of(x[at], max, scale)][0] += w ? (double)w[at] : 1;
}

static size_t sample_bin(const float *x, size_t n, float max, float scale, int32_t wanted,
                         uint32_t *ids)
{
    int32_t bin[CHAINS];
    size_t found = 0, at = 0;
    for (; at + CHAINS <= n; at += CHAINS) {
        int any = 0;
        bins_of(x + at, max, scale, bin);
        for (size_t c = 0; c < CHAINS; c++)
            any |= bin[c] == wanted;
        for (size_t c = 0; any && c < CHAINS; c++)
            if (bin[c] == wanted)
                ids[found++] = (uint32_t)(at + c);
    }
    for (; at < n; at++)
        if (bin_of(x[at], max, scale) == wanted)
            ids[found++] = (uint32_t)at;
    return found;
}
