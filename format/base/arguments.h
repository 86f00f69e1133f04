/* A command line: options from a table, and what is no option. getopt_long's rules, messages of our
 * own. */
#pragma once
#include "error.h"
#include <stdbool.h>
#include <stdint.h>

struct argument {
    const char *name; /* --name; NULL ends a table. Of several with an id the first is its name */
    int has_value;
    int id;            /* below 256: its letter, too */
    unsigned commands; /* bits: whose it is */
};
struct arguments {
    const struct argument *table; /* at most ARGUMENTS_MAX */
    unsigned command;             /* one of the bits */
    bool (*take)(void *to, int id, const char *value, struct tp_error *err);
    void *to;
    const char **rest; /* [rest_max] what is no option */
    int rest_max, n_rest;
};
enum { ARGUMENTS_MAX = 64 };
/* argv[0] is the subcommand. TP_E_USAGE, and the errors of take. */
bool arguments_parse(struct arguments *arguments, int argc, char **argv, struct tp_error *err);

/* given[n] is what is no option; min to max of them are asked for, `expected` in words.
 * TP_E_USAGE. */
bool arguments_count(const char *const *given, int n, int min, int max, const char *expected,
                     struct tp_error *err);

/* The first n of them are paths: not empty. TP_E_USAGE. */
bool arguments_paths(const char *const *given, int n, struct tp_error *err);

/* Always false: TP_E_USAGE, "--name: "value" given, ... expected"; while options are taken the name
 * is the one that was given */
bool argument_bad(const struct argument *table, int id, const char *value, const char *expected,
                  struct tp_error *err);
bool argument_u64(const struct argument *table, int id, const char *value, uint64_t min,
                  uint64_t max, uint64_t *out, struct tp_error *err);
/* value is not empty: *out. */
bool argument_path(const struct argument *table, int id, const char *value, const char **out,
                   struct tp_error *err);
