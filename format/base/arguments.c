#include "arguments.h"

#include "checked.h"
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char *name_of(const struct argument *table, int id)
{
    while (table->name && table->id != id)
        table++;
    return table->name ? table->name : "?";
}

bool argument_bad(const struct argument *table, int id, const char *value, const char *expected,
                  struct tp_error *err)
{
    char name[TP_NAME_BUF];
    return tp_fail(err, TP_E_USAGE, "--%s: \"%s\" given, %s expected", name_of(table, id),
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

static bool not_taken(const char *command, const char *what, bool known, struct tp_error *err)
{
    char name[TP_NAME_BUF];
    tp_name_cut(name, what, strlen(what));
    return known
               ? tp_fail(err, TP_E_USAGE, "%s: a value is missing", name)
               : tp_fail(err, TP_E_USAGE, "%s: no option of %s (--help lists them)", name, command);
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
            return not_taken(argv[0], argv[optind - 1], id == ':', err);
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
