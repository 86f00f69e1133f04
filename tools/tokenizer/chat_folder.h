/* The folder additional_chat_templates of a model's folder: a template in each of its files
 * NAME.jinja. It travels as one file of a bundle (BUNDLE_TEMPLATES, format.md). */
#pragma once
#include "bundle.h"
#include "findings.h"
#include <jansson.h>

#define CHAT_FOLDER_SUFFIX ".jinja"

/* *out: an object, NAME to the template as it is, null where that is no UTF-8 or more than
 * JINJA_SOURCE_MAX bytes; in the order of the names. NULL: DIR has no such folder. The caller owns
 * it. What of it is left out without a name is a finding.
 *
 * Errors  TP_E_TK_INVALID: findings are strict; TP_E_IO, TP_E_MEMORY */
bool chat_folder_read(const char *dir, struct findings *findings, json_t **out,
                      struct tp_error *err);
