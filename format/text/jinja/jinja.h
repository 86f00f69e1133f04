/* Chat templates: Jinja as Hugging Face transformers runs it (jinja2's
 * ImmutableSandboxedEnvironment with trim_blocks, lstrip_blocks, loopcontrols, the generation tag,
 * tojson, raise_exception, strftime_now), compiled from source and rendered over JSON variables.
 *
 * A template cannot reach anything but its variables, and cannot exhaust time or memory: steps,
 * memory, output and depth are bounded. Every byte of the result knows where it came from: the
 * template and trusted variables, or the data. Whoever encodes the text takes control tokens from
 * the former alone.
 */
#pragma once
#include "error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JINJA_SOURCE_MAX (1u << 20)
#define JINJA_STEPS_MAX 1000000u /* see jinja_spend for what a step is */
#define JINJA_OUTPUT_MAX (16u << 20)
#define JINJA_MEMORY_MAX (256ull << 20) /* values of one rendering */
#define JINJA_DEPTH_MAX 64              /* nested blocks, calls, expressions' parentheses, values */

struct jinja_template;

enum jinja_failure {
    JINJA_SYNTAX,  /* the source is no template, or uses what is not supported */
    JINJA_RUNTIME, /* an error while rendering, as jinja2 would raise it */
    JINJA_LIMIT,   /* steps, memory, output or depth */
    JINJA_MEMORY,  /* the machine has none */
};

/* What went wrong. text is "TypeError: ..." in jinja2's and Python's words where they define it,
 * complete and in UTF-8; line and column (in characters, from 1; 0: unknown) are places in the
 * source. The owner frees with jinja_error_free. */
struct jinja_error {
    enum jinja_failure failure;
    char *text;
    uint32_t line, column;
};
void jinja_error_free(struct jinja_error *error);
/* As a tp_error, "NAME:LINE:COLUMN: text"; frees error. Codes TP_E_TEMPLATE_SYNTAX,
 * TP_E_TEMPLATE, TP_E_LIMIT, TP_E_MEMORY. Returns false. */
bool jinja_fail(struct jinja_error *error, const char *name, struct tp_error *err);

/* source: n bytes, any bytes are safe; not kept. NULL on error. The caller frees. A compiled
 * template is constant: threads may share it. */
struct jinja_template *jinja_compile(const char *source, size_t n, struct jinja_error *error);
void jinja_template_free(struct jinja_template *compiled); /* NULL is allowed */

struct jinja_options {
    int64_t now; /* what strftime_now shows: seconds since 1970 of a clock in local time */
};

/* Text with the origin of each byte: origin[i] is 0 for the template's own and trusted variables',
 * 1 for the data's. The owner frees with jinja_text_free. */
struct jinja_text {
    char *bytes;
    unsigned char *origin;
    size_t n;
};
void jinja_text_free(struct jinja_text *text);

/* Render with the names of two objects: trusted (bos_token ...; NULL: none) and data, which hides
 * a trusted one of the same name. On error *out is untouched. */
bool jinja_render(const struct jinja_template *compiled, const json_t *trusted, const json_t *data,
                  const struct jinja_options *options, struct jinja_text *out,
                  struct jinja_error *error);
