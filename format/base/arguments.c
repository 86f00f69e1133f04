#include "arguments.h"

#include "checked.h"
#include "guess.h"
#include <getopt.h>
#include <stdio.h>
#include <string.h>

/* The option of an id that is some of these commands'; NULL: there is none. */
static const struct argument *of_id(const struct argument *table, unsigned commands, int id)
{
    for (; table->name; table++)
        if (table->id == id && table->commands & commands)
            return table;
    return NULL;
}

/* The option that is being taken, as it was given: its letter, or one of its names; "": none. */
static char as_given[TP_NAME_BUF];

static void note_given(const struct option *name, int id)
{
    if (name)
        snprintf(as_given, sizeof as_given, "--%s", name->name);
    else
        snprintf(as_given, sizeof as_given, "-%c", id);
}

bool argument_bad(const struct argument *table, int id, const char *value, const char *expected,
                  struct tp_error *err)
{
    char name[TP_NAME_BUF];
    tp_name_cut(name, value, strlen(value));
    return *as_given
               ? tp_fail(err, TP_E_USAGE, "%s: \"%s\" given, %s expected", as_given, name, expected)
               : tp_fail(err, TP_E_USAGE, "--%s: \"%s\" given, %s expected",
                         of_id(table, ~0u, id)->name, name, expected);
}

bool argument_path(const struct argument *table, int id, const char *value, const char **out,
                   struct tp_error *err)
{
    *out = value;
    return *value || argument_bad(table, id, value, "a path", err);
}

bool argument_u64(const struct argument *table, int id, const char *value, uint64_t min,
                  uint64_t max, uint64_t *out, struct tp_error *err)
{
    char expected[64];
    snprintf(expected, sizeof expected, "%llu to %llu", (unsigned long long)min,
             (unsigned long long)max);
    return (tp_parse_u64(value, strlen(value), out) && *out >= min && *out <= max) ||
           argument_bad(table, id, value, expected, err);
}

/* How many long options begin as text does, up to its "=". */
static int beginning_with(const struct arguments *a, const char *text)
{
    int n = 0;
    for (const struct argument *t = a->table; t->name; t++)
        n += t->commands & a->command && strncmp(t->name, text, strcspn(text, "=")) == 0;
    return n;
}

static bool too_many(const char *word, struct tp_error *err)
{
    char name[TP_NAME_BUF];
    return tp_fail(err, TP_E_USAGE,
                   "%s: one argument too many (several words are one in quotation marks)",
                   tp_name_cut(name, word, strlen(word)));
}

bool arguments_count(const char *const *given, int n, int min, int max, const char *expected,
                     struct tp_error *err)
{
    if (n > max)
        return too_many(given[max], err);
    return n >= min ||
           tp_fail(err, TP_E_USAGE, "%s expected, %s given", expected, n == 0 ? "none" : "one");
}

bool arguments_paths(const char *const *given, int n, struct tp_error *err)
{
    for (int i = 0; i < n; i++)
        if (!*given[i])
            return tp_fail(err, TP_E_USAGE, "\"\" given, a path expected");
    return true;
}

/* An option, its name as it was given, that this command does not have: another has it, or none. */
static bool no_option(const char *name, bool others_have, const char *nearest, const char *command,
                      struct tp_error *err)
{
    if (others_have)
        return tp_fail(err, TP_E_USAGE, "%s: an option of other commands, not of %s", name,
                       command);
    if (nearest)
        return tp_fail(err, TP_E_USAGE, "%s: no such option of %s; did you mean --%s?", name,
                       command, nearest);
    return tp_fail(err, TP_E_USAGE, "%s: no such option of %s (--help lists them)", name, command);
}

static bool no_long_option(const struct arguments *a, const char *given, const char *command,
                           struct tp_error *err)
{
    const char *word = given + 2;
    size_t n = strcspn(word, "=");
    struct guess guess = guess_of(word, n);
    bool others = false;
    char name[TP_NAME_BUF];
    for (const struct argument *t = a->table; t->name; t++)
        if (t->commands & a->command)
            guess_offer(&guess, t->name);
        else
            others |= strlen(t->name) == n && strncmp(t->name, word, n) == 0;
    return no_option(tp_name_cut(name, given, n + 2), others, guess.word, command, err);
}

/* What getopt_long did not take. optopt is 0 where it was a long option that there is not, or
 * several like it; the id of one that was given a value in vain, or none; a letter that there is
 * not. */
static bool not_taken(const struct arguments *a, char **argv, bool lacks_value,
                      struct tp_error *err)
{
    const struct argument *known = of_id(a->table, a->command, optopt);
    const char *given = argv[optind - 1];
    char cut[TP_NAME_BUF], letter[] = {'-', (char)optopt, '\0'};
    const char *name =
        strncmp(given, "--", 2) == 0 ? tp_name_cut(cut, given, strcspn(given, "=")) : letter;
    if (lacks_value)
        return tp_fail(err, TP_E_USAGE, "%s: a value is missing", name);
    if (known)
        return tp_fail(err, TP_E_USAGE, "%s: takes no value", name);
    if (optopt)
        return no_option(letter, of_id(a->table, ~0u, optopt), NULL, argv[0], err);
    if (beginning_with(a, given + 2) > 1)
        return tp_fail(err, TP_E_USAGE, "%s: several options of %s begin like this", name, argv[0]);
    return no_long_option(a, given, argv[0], err);
}

bool arguments_parse(struct arguments *a, int argc, char **argv, struct tp_error *err)
{
    struct option longs[ARGUMENTS_MAX + 1] = {0}, *next = longs;
    char shorts[2 * ARGUMENTS_MAX + 2] = ":", *end = shorts + 1;
    for (const struct argument *t = a->table; t->name; t++)
        if (t->commands & a->command) {
            tp_assert(next < longs + ARGUMENTS_MAX);
            *next++ = (struct option){t->name, t->has_value, NULL, t->id};
            if (t->id < 256) {
                *end++ = (char)t->id;
                if (t->has_value)
                    *end++ = ':';
            }
        }
    optind = 0; /* begins anew, even after a command line that was left in the middle */
    opterr = 0;
    for (int id, i = -1; (id = getopt_long(argc, argv, shorts, longs, &i)) != -1; i = -1) {
        if (id == '?' || id == ':')
            return not_taken(a, argv, id == ':', err);
        note_given(i < 0 ? NULL : &longs[i], id);
        if (!a->take(a->to, id, optarg, err))
            return false;
    }
    *as_given = '\0';
    for (a->n_rest = 0; optind < argc; optind++) {
        if (a->n_rest == a->rest_max)
            return too_many(argv[optind], err);
        a->rest[a->n_rest++] = argv[optind];
    }
    return true;
}
