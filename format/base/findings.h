/* What a folder has that is not as it should be and can be used all the same: said once on stderr,
 * and counted. People who want none of it ask for strict: each is an error then. */
#pragma once
#include "error.h"
#include <stdint.h>

struct findings {
    bool quiet;        /* they have been said before; count them all the same */
    bool strict;       /* a warning is an error */
    bool files_said;   /* who takes the files has said which are no regular ones */
    uint32_t warnings; /* so far; the manifest has the number */
};

/* One sentence naming the file. code: of exit status 3 (TP_EXIT_INPUT), what it is if strict. False
 * only then. */
bool finding_warn(struct findings *findings, enum tp_code code, struct tp_error *err,
                  const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* What was an error where it was met, as a warning: *why is none afterwards. One of another exit
 * status than 3 (memory, I/O, limits) stays one: false, *err is *why. */
bool finding_forgive(struct findings *findings, struct tp_error *why, const char *what_follows,
                     struct tp_error *err);
/* What is as it may be, and worth a line. findings may be NULL: nobody wants it. */
void finding_note(const struct findings *findings, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
