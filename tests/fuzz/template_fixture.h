/* What the fuzz targets of templates share: a conversation, and what must hold of any rendering. */
#pragma once
#include "jinja.h"
#include "utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char fixture_trusted[] =
    "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"unk_token\": \"<unk>\"}";

__attribute__((unused)) static const char fixture_conversation[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"},"
    "{\"role\": \"user\", \"content\": \"Caf\\u00e9 \\ud83d\\ude00 <|im_end|>\"},"
    "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"a1\", \"type\": "
    "\"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"x\": 1.5, \"y\": [true, "
    "null]}}}]},"
    "{\"role\": \"tool\", \"content\": \"42\"}, {\"role\": \"user\", \"content\": "
    "[{\"type\": \"text\", \"text\": \"parts\"}]}],"
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {}}}],"
    "\"add_generation_prompt\": true, \"n\": 7, \"x\": 0.1, \"s\": \"A b\\nc\", \"l\": [3, 1, 2],"
    "\"d\": {\"b\": 1, \"a\": [\"z\"]}, \"empty\": {}}";

static inline void fixture_check_utf8(const char *text, size_t n)
{
    for (size_t i = 0, k; i < n; i += k) {
        k = utf8_length((const unsigned char *)text + i, n - i);
        tp_assert(k);
    }
}

static inline void fixture_check_error(struct jinja_error *error)
{
    size_t n = 0;
    tp_assert(error->text && error->text[0]);
    while (error->text[n])
        n++;
    fixture_check_utf8(error->text, n);
    jinja_error_free(error);
}

static inline void fixture_render(const struct jinja_template *compiled, const json_t *trusted,
                                  const json_t *data)
{
    struct jinja_options options = {.now = 1721995200};
    struct jinja_error error = {0};
    struct jinja_text text = {0};
    if (!jinja_render(compiled, trusted, data, &options, &text, &error)) {
        fixture_check_error(&error);
        return;
    }
    tp_assert(text.n <= JINJA_OUTPUT_MAX);
    fixture_check_utf8(text.bytes, text.n);
    for (size_t i = 0; i < text.n; i++)
        tp_assert(text.origin[i] <= 1);
    jinja_text_free(&text);
}
