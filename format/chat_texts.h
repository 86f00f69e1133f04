/* The names of the texts about chat in a compiled tokenizer (format/tokenizer_file.h, TEXTS), as
 * tools/chat_source.c finds them in a model's folder and runtime/chat_template.c uses them. */
#pragma once

#define CHAT_TEXT_TEMPLATE "chat_template." /* and its name: the template's source */
#define CHAT_TEXT_TOKENS "special_tokens"   /* JSON object: "bos_token", "eos_token" ... to text */
#define CHAT_TEXT_REFUSED "chat_refused"    /* why there is no template, one line */

#define CHAT_TEMPLATE_DEFAULT "default"
#define CHAT_TEMPLATE_TOOLS "tool_use" /* where tools are given and there is one */

enum { CHAT_TEMPLATE_NAME_MAX = 64, CHAT_TEMPLATES_MAX = 16 };
