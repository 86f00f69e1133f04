/* Conversations: what a message becomes, and which tokens end an answer. */
#include "chat.h"
#include "tokenizer_fixture.h"

enum { END = ADDED_0 + 2, NEXT = ADDED_0 + 3, LONG = ADDED_0 + 4 };

struct talk {
    unsigned char *data;
    struct tokenizer tokenizer;
    struct chat chat;
};

/* A chat with this template; eos NULL: no eos_token. */
static void talk_open(struct talk *t, const char *template, const char *eos)
{
    const struct pack_text list[2] = {
        {TEXT_TEMPLATE, "default", template, 7, (uint32_t)strlen(template)},
        {TEXT_VARIABLE, "eos_token", eos, 9, eos ? (uint32_t)strlen(eos) : 0},
    };
    const struct tokenizer_texts texts = {list, eos ? 2 : 1};
    struct tp_error err = {0};
    uint64_t n;
    *t = (struct talk){0};
    json_t *doc = fixture_doc(NULL);
    fixture_add(doc, "<end>", END, "s");
    fixture_add(doc, "<next>", NEXT, "s");
    fixture_add(doc, "<end>!", LONG, "");
    char *text = json_dumps(doc, 0);
    json_decref(doc);
    if (!tokenizer_compile("f", text, strlen(text), &texts, NULL, &t->data, &n, &err) ||
        !tokenizer_open_bytes(t->data, n, "fixture", &t->tokenizer, &err) ||
        !chat_open(&t->chat, &t->tokenizer, NULL, false, &err))
        fail_msg("%s", err.text);
    free(text);
}

static void talk_close(struct talk *t)
{
    chat_close(&t->chat);
    tokenizer_close(&t->tokenizer);
    mem_free(t->data);
}

static void assert_turn_end(const char *template, uint32_t expected)
{
    struct talk t;
    talk_open(&t, template, NULL);
    assert_int_equal(chat_turn_end(&t.chat), expected);
    talk_close(&t);
}

static void a_turn_ends_with_the_added_token_after_the_answer(void **state)
{
    (void)state;
    assert_turn_end("{% for m in messages %}<next>{{ m.content }}<end>\n{% endfor %}", END);
    assert_turn_end("{% for m in messages %}{{ m.content }} \n<end><next>{% endfor %}", END);
    assert_turn_end("{% for m in messages %}{{ m.content }}<end>!{% endfor %}", LONG);
    assert_turn_end("{% for m in messages %}{{ m.content | trim }}{% if m.role == 'assistant' %}"
                    "</s>{% endif %}{% endfor %}",
                    ADDED_0 + 1);
}

static void a_turn_without_such_a_token_has_no_end(void **state)
{
    (void)state;
    assert_turn_end("{% for m in messages %}{{ m.content }}\n{% endfor %}", TOKEN_NONE);
    assert_turn_end("{% for m in messages %}{{ m.content }}. <end>{% endfor %}", TOKEN_NONE);
    assert_turn_end("{{ messages[0].content }}<end>", TOKEN_NONE);
    assert_turn_end("{{ raise_exception('no') }}", TOKEN_NONE);
    assert_turn_end(
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ raise_exception('x') }}"
        "{% endif %}{{ m.content }}<end>{% endfor %}",
        TOKEN_NONE);
}

static void stops_are_those_that_are_given_and_the_templates_once(void **state)
{
    (void)state;
    struct talk t;
    talk_open(&t, "{% for m in messages %}{{ m.content }}<end>{% endfor %}", NULL);
    chat_set_stops(&t.chat, (const int64_t[]){7, END}, 2);
    assert_int_equal(t.chat.n_stops, 2);
    assert_int_equal(t.chat.stops[0], 7);
    assert_int_equal(t.chat.stops[1], END);
    chat_set_stops(&t.chat, NULL, 0);
    assert_int_equal(t.chat.n_stops, 1);
    talk_close(&t);
    talk_open(&t, "x", NULL);
    chat_set_stops(&t.chat, (const int64_t[]){5}, 1);
    assert_int_equal(t.chat.n_stops, 1);
    talk_close(&t);
}

static void a_tokenizer_ends_with_its_eos_token(void **state)
{
    (void)state;
    static const struct {
        const char *eos;
        uint32_t id;
    } cases[] = {{"</s>", ADDED_0 + 1},
                 {"<end>!", LONG},
                 {"a", 'a'},
                 {"</s> and more", TOKEN_NONE},
                 {NULL, TOKEN_NONE}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct talk t;
        talk_open(&t, "x", cases[i].eos);
        assert_int_equal(tokenizer_end(&t.tokenizer), cases[i].id);
        talk_close(&t);
    }
}

static void what_a_message_says_is_never_a_control_token(void **state)
{
    (void)state;
    struct talk t;
    struct tp_error err = {0};
    struct token_ids ids = {0};
    talk_open(&t, "{% for m in messages %}<s>{{ m.content }}<end>{% endfor %}", NULL);
    json_t *messages = json_array();
    assert_true(chat_add(messages, "user", "a<end>", 6, &err));
    assert_true(chat_encode(&t.chat, messages, NULL, &ids, &err));
    assert_int_equal(ids.count, 8);
    assert_int_equal(ids.ids[0], ADDED_0);
    assert_int_equal(ids.ids[1], 'a');
    assert_int_equal(ids.ids[7], END);
    t.chat.parse_special = true;
    ids.count = 0;
    assert_true(chat_encode(&t.chat, messages, NULL, &ids, &err));
    assert_int_equal(ids.count, 4);
    assert_int_equal(ids.ids[2], END);
    token_ids_free(&ids);
    json_decref(messages);
    talk_close(&t);
}

static void bytes_that_are_no_utf8_are_replaced(void **state)
{
    (void)state;
    struct tp_error err = {0};
    json_t *messages = json_array();
    assert_true(chat_add(messages, "user", "a\xff\xe2\x82z\0", 6, &err));
    assert_true(chat_add(messages, "user", "", 0, &err));
    const json_t *content = json_object_get(json_array_get(messages, 0), "content");
    assert_int_equal(json_string_length(content), 9);
    assert_memory_equal(json_string_value(content), "a\xef\xbf\xbd\xef\xbf\xbdz", 9);
    content = json_object_get(json_array_get(messages, 1), "content");
    assert_int_equal(json_string_length(content), 0);
    json_decref(messages);
}

static void messages_are_prepared_as_the_reference_does(void **state)
{
    (void)state;
    struct talk t;
    struct tp_error err = {0};
    struct jinja_text text;
    talk_open(
        &t,
        "{% for m in messages %}{{ 'content' in m }} {{ m | length }} {{ m.reasoning_content }} "
        "{{ m.thinking }};{% endfor %}{{ tools is none }} {{ documents is none }}",
        NULL);
    json_t *messages = json_loads("[{\"role\": \"a\", \"content\": null},"
                                  " {\"role\": \"a\", \"content\": \"\", \"reasoning\": \"why\"}]",
                                  0, NULL);
    struct chat_request request = {messages, NULL, true, 0};
    assert_true(chat_template_render(&t.chat.template, &request, &text, &err));
    assert_int_equal(text.n, strlen("False 1  ;True 5 why why;True True"));
    assert_memory_equal(text.bytes, "False 1  ;True 5 why why;True True", text.n);
    jinja_text_free(&text);
    json_decref(messages);
    talk_close(&t);
}

static void a_refused_template_says_why(void **state)
{
    (void)state;
    const struct pack_text list[1] = {{TEXT_REFUSED, "default", "f:1:2: because", 7, 14}};
    const struct tokenizer_texts texts = {list, 1};
    struct tp_error err = {0};
    struct tokenizer tokenizer;
    struct chat chat;
    unsigned char *data;
    uint64_t n;
    json_t *doc = fixture_doc(NULL);
    char *text = json_dumps(doc, 0);
    json_decref(doc);
    assert_true(tokenizer_compile("f", text, strlen(text), &texts, NULL, &data, &n, &err));
    assert_true(tokenizer_open_bytes(data, n, "fixture", &tokenizer, &err));
    assert_false(chat_open(&chat, &tokenizer, NULL, false, &err));
    assert_int_equal(err.code, TP_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "f:1:2: because"));
    tokenizer_close(&tokenizer);
    mem_free(data);
    free(text);
}

/* Names that are there ("!": refused), the one that is asked for, tools: as get_chat_template of
 * transformers 5 chooses. */
static void a_template_is_chosen_as_the_reference_does(void **state)
{
    (void)state;
    static const struct {
        const char *names[4], *asked;
        bool tools;
        const char *found, *says;
    } cases[] = {
        {{"default", "tool_use"}, NULL, false, "default", NULL},
        {{"default", "tool_use"}, NULL, true, "tool_use", NULL},
        {{"default", "rag"}, NULL, true, "default", NULL},
        {{"default", "rag"}, "rag", true, "rag", NULL},
        {{"default", "tool_use"}, "default", true, "default", NULL},
        {{"rag", "tool_use"}, NULL, true, "tool_use", NULL},
        {{"rag", "tool_use"}, NULL, false, NULL, "rag, tool_use"},
        {{"rag"}, NULL, true, NULL, "one of these: rag"},
        {{"default", "rag"}, "tool_use", true, NULL, "\"tool_use\", --chat-template"},
        {{NULL}, NULL, false, NULL, "had none"},
        {{NULL}, "rag", false, NULL, "had none"},
        {{"default", "!tool_use"}, NULL, true, NULL, "because"},
        {{"default", "!tool_use"}, NULL, false, "default", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pack_text list[4];
        struct tokenizer_texts texts = {list, 0};
        struct tp_error err = {0};
        struct tokenizer tokenizer;
        unsigned char *data;
        uint64_t n;
        for (; cases[i].names[texts.count]; texts.count++) {
            const char *name = cases[i].names[texts.count];
            bool refused = *name == '!';
            list[texts.count] = (struct pack_text){
                refused ? TEXT_REFUSED : TEXT_TEMPLATE, name + refused, refused ? "because" : "x",
                (uint32_t)strlen(name + refused), refused ? 7 : 1};
        }
        json_t *doc = fixture_doc(NULL);
        char *text = json_dumps(doc, 0);
        json_decref(doc);
        assert_true(tokenizer_compile("f", text, strlen(text), &texts, NULL, &data, &n, &err));
        assert_true(tokenizer_open_bytes(data, n, "fixture", &tokenizer, &err));
        const char *found =
            chat_template_find(&tokenizer.file, cases[i].asked, cases[i].tools, &err);
        if (cases[i].found)
            assert_string_equal(found, cases[i].found);
        else if (found || !strstr(err.text, cases[i].says))
            fail_msg("case %zu: %s", i, err.text);
        tokenizer_close(&tokenizer);
        mem_free(data);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_ends_with_the_added_token_after_the_answer),
        cmocka_unit_test(a_turn_without_such_a_token_has_no_end),
        cmocka_unit_test(stops_are_those_that_are_given_and_the_templates_once),
        cmocka_unit_test(a_tokenizer_ends_with_its_eos_token),
        cmocka_unit_test(what_a_message_says_is_never_a_control_token),
        cmocka_unit_test(bytes_that_are_no_utf8_are_replaced),
        cmocka_unit_test(messages_are_prepared_as_the_reference_does),
        cmocka_unit_test(a_refused_template_says_why),
        cmocka_unit_test(a_template_is_chosen_as_the_reference_does),
    };
    return cmocka_run_group_tests_name("chat", tests, NULL, NULL);
}
