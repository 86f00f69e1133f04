#include "guess.h"

#include <string.h>

/* A word of which much is wrong is another word. */
static unsigned changes_allowed(size_t n)
{
    return n < 3 ? 0 : n < 6 ? 1 : 2;
}

/* The fewest changes from a to b, a swap of neighbours being one, once at a place: row i of the
 * table says it of the first i letters of a and the first j of b. */
static unsigned changes_between(const char *a, size_t n, const char *b, size_t m)
{
    unsigned rows[3][GUESS_WORD_MAX + 1];
    for (unsigned j = 0; j <= m; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *second = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned left = row[j - 1] + 1, up = above[j] + 1;
            unsigned kept = above[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = left < up ? left : up;
            row[j] = kept < row[j] ? kept : row[j];
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                second[j - 2] + 1 < row[j])
                row[j] = second[j - 2] + 1;
        }
    }
    return rows[n % 3][m];
}

struct guess guess_of(const char *typed, size_t n)
{
    return (struct guess){.typed = typed, .n = n, .changes = changes_allowed(n) + 1};
}

void guess_offer(struct guess *guess, const char *word)
{
    size_t m = strlen(word);
    if (guess->n > GUESS_WORD_MAX || m > GUESS_WORD_MAX)
        return;
    unsigned changes = changes_between(guess->typed, guess->n, word, m);
    if (changes < guess->changes) {
        guess->word = word;
        guess->changes = changes;
    }
}
