/* The input is the source of a chat template; what compiles is rendered over a conversation with
 * every kind of value. Whatever it is, it ends soon, and its text is UTF-8 with an origin for every
 * byte. */
#include "mem.h"
#include "template_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_t *trusted, *conversation;
    struct jinja_error error = {0};
    if (!conversation) {
        trusted = json_loads(fixture_trusted, 0, NULL);
        conversation = json_loads(fixture_conversation, 0, NULL);
        tp_assert(trusted && conversation);
    }
    struct jinja_template *compiled = jinja_compile((const char *)data, size, &error);
    if (!compiled) {
        fixture_check_error(&error);
        return 0;
    }
    fixture_render(compiled, trusted, conversation);
    jinja_template_free(compiled);
    return 0;
}
