/* What somebody may have meant who typed another word: of the words there are, the nearest. */
#pragma once
#include <stddef.h>

enum { GUESS_WORD_MAX = 32 }; /* a longer word is never meant */

struct guess {
    const char *typed; /* [n] */
    size_t n;
    const char *word; /* the nearest so far; NULL: none is near */
    unsigned changes; /* letters put in, left out, replaced or swapped */
};
struct guess guess_of(const char *typed, size_t n);
/* word: one of those there are; borrowed. Of equally near ones the first counts. */
void guess_offer(struct guess *guess, const char *word);
