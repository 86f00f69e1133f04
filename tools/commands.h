/* The subcommands of tpshard: each parses its own line, and returns the program's exit status. */
#pragma once

#define TPSHARD "tpshard"

int command_convert(int argc, char **argv);
int command_plan(int argc, char **argv);
int command_inspect(int argc, char **argv);
int command_verify(int argc, char **argv);
int command_diff(int argc, char **argv);
int command_reshard(int argc, char **argv);
int command_export(int argc, char **argv);
int command_tokenizer(int argc, char **argv);
