/* Command lines of tprun. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "device.h"
#include "guess.h"
#include "run_options.h"
#include <stdio.h>
#include <string.h>

static struct run_options options;
static struct tp_error err;

/* Words of a command line, the subcommand first. */
static bool parse(enum run_command command, const char *line)
{
    static char copy[1024];
    char *argv[64], *save = NULL;
    int argc = 0;
    strcpy(copy, line);
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    argv[argc] = NULL;
    err = (struct tp_error){0};
    return run_options_parse(&options, command, argc, argv, &err);
}

static void accepted(enum run_command command, const char *line)
{
    if (!parse(command, line))
        fail_msg("%s: %s", line, err.text);
}

static void refused(enum run_command command, const char *line, enum tp_code code, const char *what)
{
    assert_false(parse(command, line));
    assert_int_equal(err.code, code);
    if (!strstr(err.text, what))
        fail_msg("\"%s\" does not name %s", err.text, what);
}

static void every_option_of_generate_is_read(void **state)
{
    (void)state;
    accepted(
        RUN_GENERATE,
        "generate B -p text -n 5 --temp 0.5 --top-k 3 --top-p 0.9 --min-p 0.1 --seed "
        "18446744073709551615 "
        "--stop a --stop b --ignore-eos --json --context 10 --kv-dtype f16 --chunk 7 --threads 5 "
        "--isa scalar --device cpu --exact --verify=header --trace T --report json -q "
        "--layers 3");
    assert_string_equal(options.bundle, "B");
    assert_string_equal(options.prompts.text, "text");
    assert_int_equal(options.prompts.n, 5);
    assert_true(options.choice.temperature == 0.5 && options.choice.given_temperature);
    assert_int_equal(options.choice.top_k, 3);
    assert_true(options.choice.top_p == 0.9 && options.choice.min_p == 0.1);
    assert_true(options.choice.seed == UINT64_MAX);
    assert_int_equal(options.n_stops, 2);
    assert_string_equal(options.stops[1], "b");
    assert_true(options.ignore_eos && options.json && !options.ids);
    assert_int_equal(options.context, 10);
    assert_int_equal(options.kv_dtype, DTYPE_F16);
    assert_int_equal(options.chunk, 7);
    assert_int_equal(options.threads, 5);
    assert_string_equal(options.isa, "scalar");
    assert_true(options.header_only && options.report.json && options.report.quiet);
    assert_int_equal(options.layers, 3);
    assert_string_equal(options.trace, "T");
    assert_true(options.exact && !run_options_fast(&options));
}

static void chunks_of_the_fast_mode_are_of_its_list(void **state)
{
    (void)state;
    accepted(RUN_GENERATE, "generate B -p x --device cuda --chunk 512");
    assert_true(run_options_fast(&options));
    refused(RUN_GENERATE, "generate B -p x --device cuda --chunk 100", TP_E_USAGE,
            "128, 256, 512, 1024, 2048");
    accepted(RUN_GENERATE, "generate B -p x --device cuda --chunk 100 --exact");
    accepted(RUN_GENERATE, "generate B -p x --device cuda --chunk 100 --trace T");
    accepted(RUN_LOGITS, "logits B -p x -o y --device cuda --chunk 100");
    assert_false(run_options_fast(&options));
    refused(RUN_LOGITS, "logits B -p x -o y --device cuda --chunk 100 --fast", TP_E_USAGE,
            "--chunk 100");
    refused(RUN_LOGITS, "logits B -p x -o y --fast --trace T", TP_E_USAGE, "--trace");
}

static void every_option_of_chat_is_read(void **state)
{
    (void)state;
    accepted(RUN_CHAT, "chat B -n 9 --temp 0 --repetition-penalty 1.5 --system S --parse-special "
                       "--stats --history H --no-reuse --context 99 --stop x");
    assert_int_equal(options.prompts.n, 9);
    assert_true(options.choice.penalty == 1.5 && options.choice.given_penalty);
    assert_string_equal(options.prompts.system, "S");
    assert_true(options.parse_special && options.stats && options.no_reuse);
    assert_string_equal(options.history, "H");
    accepted(RUN_CHAT, "chat B");
    assert_int_equal(options.prompts.n, 512);
    accepted(RUN_GENERATE, "generate B --chat -p x --system S --parse-special");
    assert_true(options.chat && options.parse_special);
    refused(RUN_GENERATE, "generate B -p x --system S", TP_E_USAGE, "--system goes with --chat");
    refused(RUN_GENERATE, "generate B -p x --parse-special", TP_E_USAGE, "--parse-special");
    refused(RUN_CHAT, "chat B -p x", TP_E_USAGE, "-p");
    refused(RUN_CHAT, "chat B --repetition-penalty 0", TP_E_USAGE, "--repetition-penalty");
}

static void a_text_to_tokenize_may_be_given_or_be_a_line(void **state)
{
    (void)state;
    accepted(RUN_TOKENIZE, "tokenize B");
    assert_true(!options.plain && !options.decode && !options.prompts.text);
    accepted(RUN_TOKENIZE, "tokenize B --text --decode --no-special");
    assert_true(options.plain && options.decode && options.no_special);
    accepted(RUN_TOKENIZE, "tokenize B text");
    assert_string_equal(options.bundle, "B");
    assert_string_equal(options.prompts.text, "text");
    refused(RUN_TOKENIZE, "tokenize B a b", TP_E_USAGE, "b: one argument too many");
    refused(RUN_TOKENIZE, "tokenize B a --decode", TP_E_USAGE, "--decode");
    refused(RUN_TOKENIZE, "tokenize", TP_E_USAGE, "one BUNDLE or FILE expected, none");
}

static void defaults_are_those_of_the_manual(void **state)
{
    (void)state;
    accepted(RUN_GENERATE, "generate --prompt-ids 1,2 B");
    assert_int_equal(options.prompts.n, 128);
    assert_int_equal(options.chunk, 0);
    assert_int_equal(options.context, 0);
    assert_int_equal(options.kv_dtype, DTYPE_NONE);
    assert_null(options.isa);
    assert_false(options.choice.given_temperature || options.header_only || options.report.quiet);
    accepted(RUN_SELFTEST, "selftest --record B");
    assert_true(options.record);
    accepted(RUN_GENERATE, "generate --help");
    assert_true(options.help);
}

static void a_wrong_command_line_is_refused_by_name(void **state)
{
    (void)state;
    refused(RUN_GENERATE, "generate", TP_E_USAGE, "one BUNDLE expected, none given");
    refused(RUN_TOKENIZE, "tokenize", TP_E_USAGE, "one BUNDLE or FILE expected, none given");
    refused(RUN_GENERATE, "generate B", TP_E_USAGE, "none of TEXT, -p");
    refused(RUN_GENERATE, "generate B -p x -f y", TP_E_USAGE, "more than one");
    refused(RUN_GENERATE, "generate B C -p x", TP_E_USAGE, "more than one of TEXT, -p");
    refused(RUN_GENERATE, "generate B C D", TP_E_USAGE, "D: one argument too many");
    refused(RUN_CHAT, "chat B C", TP_E_USAGE, "C: one argument too many");
    refused(RUN_INFO, "info B", TP_E_USAGE, "B: one argument too many");
    refused(RUN_GENERATE, "generate B -p x --ids --json", TP_E_USAGE, "--ids and --json");
    refused(RUN_GENERATE, "generate B -p x --nonsense", TP_E_USAGE, "--nonsense");
    refused(RUN_GENERATE, "generate B -p", TP_E_USAGE, "-p: a value is missing");
    refused(RUN_GENERATE, "generate B -xq", TP_E_USAGE, "-x: no such option of generate");
    refused(RUN_GENERATE, "generate B --json -xq", TP_E_USAGE, "-x: no such option of generate");
    refused(RUN_GENERATE, "generate B --quiet=1", TP_E_USAGE, "--quiet: takes no value");
    refused(RUN_GENERATE, "generate B --seed", TP_E_USAGE, "--seed: a value is missing");
    refused(RUN_GENERATE, "generate B --tem 1 --t x", TP_E_USAGE, "--t: several options");
    refused(RUN_GENERATE, "generate B -p x --trace=", TP_E_USAGE, "a path");
    refused(RUN_LOGITS, "logits B -p x -o F --seed 3", TP_E_USAGE, "--seed");
    refused(RUN_LOGITS, "logits B -p x", TP_E_USAGE, "-o is missing");
    refused(RUN_GENERATE, "generate B -p x -n -1", TP_E_USAGE, "-n: \"-1\" given");
    refused(RUN_GENERATE, "generate B -p x --temp nan", TP_E_USAGE, "--temp");
    refused(RUN_GENERATE, "generate B -p x --top-p 1.5", TP_E_USAGE, "--top-p");
    refused(RUN_GENERATE, "generate B -p x --chunk 0", TP_E_USAGE, "--chunk");
    refused(RUN_GENERATE, "generate B -p x --threads 0", TP_E_USAGE, "--threads");
    refused(RUN_GENERATE, "generate B -p x --threads 1e3", TP_E_USAGE, "--threads");
    refused(RUN_GENERATE, "generate B -p x --kv-dtype int8", TP_E_USAGE, "--kv-dtype");
    refused(RUN_GENERATE, "generate B -p x --isa sse", TP_E_USAGE, "--isa");
    refused(RUN_GENERATE, "generate B -p x --verify=off", TP_E_USAGE, "--verify");
    refused(RUN_GENERATE, "generate B -p x --stop 1 --stop 2 --stop 3 --stop 4 --stop 5",
            TP_E_USAGE, "--stop");
}

static void other_names_of_options_are_those_options(void **state)
{
    (void)state;
    static const char *const tokens[] = {"-n 7", "--tokens=7", "--max-tokens 7",
                                         "--max-new-tokens=7", "--n-predict 7"};
    char line[128];
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        snprintf(line, sizeof line, "generate B x %s", tokens[i]);
        accepted(RUN_GENERATE, line);
        assert_int_equal(options.prompts.n, 7);
    }
    accepted(RUN_GENERATE, "generate B --prompt=x --temperature 2 --repeat-penalty=3 --ctx-size 9");
    assert_string_equal(options.prompts.text, "x");
    assert_true(options.choice.temperature == 2 && options.choice.penalty == 3);
    assert_int_equal(options.context, 9);
    accepted(RUN_CHAT, "chat B --system-prompt S");
    assert_string_equal(options.prompts.system, "S");
    accepted(RUN_GENERATE, "generate B x --max 3");
    assert_int_equal(options.prompts.n, 3);
    refused(RUN_GENERATE, "generate B x --temperature=hot", TP_E_USAGE,
            "--temperature: \"hot\" given");
}

static void a_text_may_stand_behind_the_bundle(void **state)
{
    (void)state;
    accepted(RUN_GENERATE, "generate -n 3 B --temp=0 x");
    assert_string_equal(options.bundle, "B");
    assert_string_equal(options.prompts.text, "x");
    accepted(RUN_LOGITS, "logits B -o F -- -x");
    assert_string_equal(options.prompts.text, "-x");
    refused(RUN_LOGITS, "logits B x -o F --prompts y", TP_E_USAGE, "more than one");
}

static void the_report_is_a_line_or_what_is_asked_for(void **state)
{
    (void)state;
    static const struct {
        const char *words;
        bool json, text, quiet;
    } forms[] = {
        {"", false, false, false},
        {"-v", false, true, false},
        {"--verbose", false, true, false},
        {"--report text", false, true, false},
        {"--report=json", true, false, false},
        {"--report none", false, false, true},
        {"-q", false, false, true},
        {"--report text --report json", true, false, false},
    };
    char line[128];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        snprintf(line, sizeof line, "generate B x %s", forms[i].words);
        accepted(RUN_GENERATE, line);
        assert_true(options.report.json == forms[i].json && options.report.text == forms[i].text &&
                    options.report.quiet == forms[i].quiet);
    }
    refused(RUN_GENERATE, "generate B x --report xml", TP_E_USAGE, "text, json or none");
}

/* The nearest of some words, and when none is near. */
static void a_word_that_was_meant_is_found(void **state)
{
    (void)state;
    static const struct {
        const char *typed, *meant;
    } cases[] = {
        {"tempp", "temp"},
        {"tmep", "temp"},
        {"temp", "temp"},
        {"contetx", "context"},
        {"cntxt", NULL},
        {"contx", NULL},
        {"contexts", "context"},
        {"x", NULL},
        {"", NULL},
        {"ids", "ids"},
        {"id", NULL},
        {"idz", "ids"},
        {"a-word-of-more-than-thirty-two-letters", NULL},
    };
    static const char *const words[] = {"temp", "context", "ids", "top-k",
                                        "a-word-of-more-than-thirty-two-letterz"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct guess guess = guess_of(cases[i].typed, strlen(cases[i].typed));
        for (size_t w = 0; w < sizeof words / sizeof *words; w++)
            guess_offer(&guess, words[w]);
        if (!cases[i].meant != !guess.word || (guess.word && strcmp(guess.word, cases[i].meant)))
            fail_msg("%s: %s found", cases[i].typed, guess.word ? guess.word : "none");
    }
}

static void what_this_version_or_machine_lacks_is_told_apart(void **state)
{
    (void)state;
    accepted(RUN_GENERATE, "generate B -p x --device cuda --mem-fraction 0.5");
    assert_true(options.device == &device_cuda && options.memory_fraction == 0.5);
    refused(RUN_GENERATE, "generate B -p x --device cuda --isa avx2", TP_E_UNSUPPORTED, "--isa");
    refused(RUN_GENERATE, "generate B -p x --device gpu", TP_E_USAGE, "--device");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_option_of_generate_is_read),
        cmocka_unit_test(every_option_of_chat_is_read),
        cmocka_unit_test(chunks_of_the_fast_mode_are_of_its_list),
        cmocka_unit_test(a_text_to_tokenize_may_be_given_or_be_a_line),
        cmocka_unit_test(defaults_are_those_of_the_manual),
        cmocka_unit_test(a_wrong_command_line_is_refused_by_name),
        cmocka_unit_test(other_names_of_options_are_those_options),
        cmocka_unit_test(a_text_may_stand_behind_the_bundle),
        cmocka_unit_test(the_report_is_a_line_or_what_is_asked_for),
        cmocka_unit_test(a_word_that_was_meant_is_found),
        cmocka_unit_test(what_this_version_or_machine_lacks_is_told_apart),
    };
    return cmocka_run_group_tests_name("run_options", tests, NULL, NULL);
}
