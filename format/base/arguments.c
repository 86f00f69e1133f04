#include "arguments.h"

#include "checked.h"
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

bool argument_bad(const struct argument *table, int id, const char *value, const char *expected,
                  struct tp_error *err)
{
    char name[TP_NAME_BUF];
    return tp_fail(err, TP_E_USAGE, "--%s: \"%s\" given, %s expected", of_id(table, ~0u, id)->name,
                   tp_name_cut(name, value, strlen(value)), expected);
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

/* What getopt_long did not take. optopt is 0 where it was a long option that there is not, or
 * several like it; the id of one that was given a value in vain, or none; a letter that there is
 * not. */
static bool not_taken(const struct arguments *a, char **argv, bool lacks_value,
                      struct tp_error *err)
{
    const struct argument *known = of_id(a->table, a->command, optopt);
    const char *given = argv[optind - 1];
    char name[TP_NAME_BUF], letter[] = {'-', (char)optopt, '\0'};
    if (lacks_value)
        return tp_fail(err, TP_E_USAGE, "%s%s: a value is missing",
                       known && optopt > 255 ? "--" : "",
                       known && optopt > 255 ? known->name : letter);
    if (known)
        return tp_fail(err, TP_E_USAGE, "--%s: takes no value", known->name);
    if (!optopt && beginning_with(a, given + 2) > 1)
        return tp_fail(err, TP_E_USAGE, "%s: several options of %s begin like this",
                       tp_name_cut(name, given, strlen(given)), argv[0]);
    given = optopt ? letter : given;
    return tp_fail(err, TP_E_USAGE, "%s: no option of %s (--help lists them)",
                   tp_name_cut(name, given, strlen(given)), argv[0]);
}

bool arguments_parse(struct arguments *a, int argc, char **argv, struct tp_error *err)
{
    struct option longs[ARGUMENTS_MAX + 1] = {0}, *next = longs;
    char shorts[2 * ARGUMENTS_MAX + 2] = ":", *end = shorts + 1;
    for (const struct argument *t = a->table; t->name; t++)
        if (t->commands & a->command) {
            *next++ = (struct option){t->name, t->has_value, NULL, t->id};
            if (t->id < 256) {
                *end++ = (char)t->id;
                if (t->has_value)
                    *end++ = ':';
            }
        }
    optind = 0; /* begins anew, even after a command line that was left in the middle */
    opterr = 0;
    for (int id; (id = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (id == '?' || id == ':')
            return not_taken(a, argv, id == ':', err);
        if (!a->take(a->to, id, optarg, err))
            return false;
    }
    for (a->n_rest = 0; optind < argc; optind++) {
        if (a->n_rest == a->rest_max)
            return tp_fail(err, TP_E_USAGE, "%.64s: one argument too many", argv[optind]);
        a->rest[a->n_rest++] = argv[optind];
    }
    return true;
}
