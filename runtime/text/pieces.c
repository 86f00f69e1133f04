#include "pieces.h"

#include "normalizer.h"
#include "splitter.h"

/* A piece on its way through the steps. */
struct piece {
    const char *text;
    size_t n;
    bool first; /* it begins where all text begins */
};

struct walking {
    struct tokenizer *tokenizer;
    struct splitter walks[TOKENIZER_STEPS_MAX];
    bool first[TOKENIZER_STEPS_MAX]; /* of the text each walk goes through */
    struct tp_error *err;
};

static bool prefix_space(struct tp_text *out, struct piece *piece, struct tp_error *err)
{
    if (piece->n && piece->text[0] == ' ')
        return true;
    out->n = 0;
    if (!tp_text_add(out, " ", 1, err) || !tp_text_add(out, piece->text, piece->n, err))
        return false;
    piece->text = out->data;
    piece->n = out->n;
    return true;
}

static bool metaspace(const struct tokenizer_step *step, struct tp_text *out, struct piece *piece,
                      struct tp_error *err)
{
    const char *s = piece->text, *end = s + piece->n, *mark = (const char *)step->pattern.data;
    const size_t mark_n = step->pattern.n;
    bool marked = piece->n && (*s == ' ' || (piece->n >= mark_n && memcmp(s, mark, mark_n) == 0));
    out->n = 0;
    if (!marked &&
        (step->behaviour == PREPEND_ALWAYS || (step->behaviour == PREPEND_FIRST && piece->first)) &&
        !tp_text_add(out, mark, mark_n, err))
        return false;
    while (s < end) {
        const char *space = memchr(s, ' ', (size_t)(end - s));
        const char *stop = space ? space : end;
        if (!tp_text_add(out, s, (size_t)(stop - s), err) ||
            (space && !tp_text_add(out, mark, mark_n, err)))
            return false;
        s = space ? space + 1 : end;
    }
    piece->text = out->data;
    piece->n = out->n;
    return true;
}

static bool letters(struct tp_text *out, struct piece *piece, struct tp_error *err)
{
    static const struct normalizer_step step = {.kind = NORMALIZER_BYTE_LEVEL};
    if (!normalizer_apply(&step, piece->text, piece->n, out, err))
        return false;
    piece->text = out->data;
    piece->n = out->n;
    return true;
}

/* Begin the walk of step i; a step that does not cut is passed through to the first that does.
 * *depth: the step whose walk was begun, step_count where none is left and piece is final. */
static bool enter(struct walking *w, uint32_t i, struct piece *piece, uint32_t *depth)
{
    struct tokenizer *t = w->tokenizer;
    for (; i < t->file.step_count; i++) {
        struct tokenizer_step step = tokenizer_file_step(&t->file, i);
        bool ok = true;
        switch (step.kind) {
        case STEP_SPLIT:
            w->walks[i] = splitter_begin(&t->steps[i], &step, piece->text, piece->n);
            w->first[i] = piece->first;
            *depth = i;
            return true;
        case STEP_PREFIX_SPACE:
            ok = prefix_space(&t->made[i], piece, w->err);
            break;
        case STEP_METASPACE:
            ok = metaspace(&step, &t->made[i], piece, w->err);
            break;
        case STEP_LETTERS:
            ok = letters(&t->made[i], piece, w->err);
            break;
        }
        if (!ok)
            return false;
    }
    *depth = i;
    return true;
}

/* The step before i that cuts; step_count where there is none. */
static uint32_t step_before(const struct tokenizer_file *file, uint32_t i)
{
    while (i-- > 0)
        if (tokenizer_file_step(file, i).kind == STEP_SPLIT)
            return i;
    return file->step_count;
}

/* Every step cuts the parts of the one before. Depth first, so that only one part per step is known
 * at a time. */
bool pieces_encode(struct tokenizer *t, const char *text, size_t n, bool first,
                   struct token_ids *list, struct tp_error *err)
{
    struct walking w;
    w.tokenizer = t;
    w.err = err;
    struct piece piece = {text, n, first};
    const uint32_t steps = t->file.step_count;
    uint32_t depth;
    if (n == 0)
        return true;
    if (!enter(&w, 0, &piece, &depth))
        return false;
    if (depth == steps)
        return bpe_encode(&t->bpe, &t->file, piece.text, piece.n, list, err);
    while (depth != steps) {
        struct splitter *walk = &w.walks[depth];
        size_t begin, end;
        bool more;
        if (!splitter_next(walk, &begin, &end, &more, err))
            return false;
        if (!more) {
            depth = step_before(&t->file, depth);
            continue;
        }
        piece = (struct piece){walk->text + begin, end - begin, w.first[depth] && begin == 0};
        uint32_t below;
        if (!enter(&w, depth + 1, &piece, &below))
            return false;
        if (below != steps)
            depth = below;
        else if (!bpe_encode(&t->bpe, &t->file, piece.text, piece.n, list, err))
            return false;
    }
    return true;
}
