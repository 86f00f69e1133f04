/* The subcommands of tpshard. Options are parsed and counted before one runs; the exit status is
 * that of err. */
#pragma once
#include "options.h"

#define TPSHARD "tpshard"
/* "schema" of every JSON object that a command prints: another number where a key goes or means
 * something else */
#define JSON_SCHEMA 1

struct command {
    const char *name;
    enum command_id id;
    int n_args; /* what it takes beside options, and what that is */
    const char *args;
    int grace_ms; /* to end in order after a signal; 0: at once */
    const char *summary;
    const char *help;
    bool (*run)(const struct options *options, struct tp_error *err);
};
extern const struct command command_convert, command_plan, command_inspect, command_verify,
    command_diff, command_reshard, command_export, command_tokenizer;
