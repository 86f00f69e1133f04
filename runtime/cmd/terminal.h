/* The terminal while an answer is printed: what is typed meanwhile is not shown in it, but waits
 * for the next line, as in a shell. Keys that send signals go on to do so. */
#pragma once
#include <stdbool.h>

/* Nothing where standard input is no terminal. Whatever ends or stops the program in between sets
 * it back. by_key: who reads it edits lines; else the terminal does. */
void terminal_hush(bool by_key);
void terminal_unhush(void);
