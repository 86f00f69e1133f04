/* What stands between quotes, and numbers: source bytes to values. */
#pragma once
#include "jinja_inside.h"
#include "jinja_lexer.h"

/* The characters of a string token, as Python's unicode-escape decodes them. */
bool jinja_decode_string(struct jinja_lexer *lexer, struct jinja_token *token);
bool jinja_decode_number(struct jinja_lexer *lexer, struct jinja_token *token);
/* May the character stand in a word? Is the word an identifier? */
bool jinja_is_word(uint32_t c);
bool jinja_is_identifier(const char *text, size_t n);
/* Bytes of the number that begins at text, 0: none. *real: with fraction or exponent. */
size_t jinja_number_length(const char *text, size_t n, bool after_dot, bool *real);
