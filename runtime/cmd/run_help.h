/* What --help of a subcommand prints. */
#pragma once
#include "run_options.h"

const char *run_help(enum run_command command);
