/* Text of files and folders as people see it. A terminal obeys what it is shown: controls, marks
 * that reorder, hide or break lines, and bytes that are no UTF-8 come out as escapes, all else as
 * it is. Error lines are made of it, and whatever names what a program did not choose. */
#pragma once
#include <stddef.h>
#include <stdio.h>

/* text, n bytes, escaped by \xNN for each byte, into out, size > 0, which ends in a NUL: as much as
 * fits. Returns its length. May be called in a signal handler. */
size_t shown_escape(char *out, size_t size, const char *text, size_t n);
/* The same to a stream; returns how many bytes. */
size_t shown_put(FILE *out, const char *text);
/* A JSON document: escapes are those of JSON. */
void shown_put_json(FILE *out, const char *text);

/* Make text at most room bytes long, room >= 64: long words (paths, names) lose their middle. */
void shown_shorten(char *text, size_t room);
