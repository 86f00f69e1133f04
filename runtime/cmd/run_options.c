#include "run_options.h"

#include "arguments.h"
#include "checked.h"
#include "processors.h"
#include <stdio.h>
#include <string.h>

enum option_id {
    OPT_TEXT = 'p',
    OPT_FILE = 'f',
    OPT_N = 'n',
    OPT_OUTPUT = 'o',
    OPT_QUIET = 'q',
    OPT_VERBOSE = 'v',
    OPT_HELP = 'h',
    OPT_PROMPT_IDS = 256,
    OPT_PROMPTS,
    OPT_TEMP,
    OPT_TOP_K,
    OPT_TOP_P,
    OPT_MIN_P,
    OPT_SEED,
    OPT_STOP,
    OPT_IGNORE_EOS,
    OPT_IDS,
    OPT_JSON,
    OPT_CONTEXT,
    OPT_KV_DTYPE,
    OPT_CHUNK,
    OPT_LAYERS,
    OPT_THREADS,
    OPT_PIN,
    OPT_ISA,
    OPT_DEVICE,
    OPT_MEM_FRACTION,
    OPT_SHARE_GPU,
    OPT_DEADLINE,
    OPT_EXACT,
    OPT_FAST,
    OPT_VERIFY,
    OPT_TRACE,
    OPT_REPORT,
    OPT_RECORD,
    OPT_DECODE,
    OPT_NO_SPECIAL,
    OPT_PLAIN,
    OPT_TEMPLATE,
    OPT_NOW,
    OPT_ORIGIN,
    OPT_CHAT,
    OPT_CHAT_TEMPLATE,
    OPT_SYSTEM,
    OPT_PARSE_SPECIAL,
    OPT_PENALTY,
    OPT_STATS,
    OPT_HISTORY,
    OPT_NO_REUSE,
};

enum {
    MACHINE = RUN_GENERATE | RUN_LOGITS | RUN_SELFTEST | RUN_CHAT,
    PROMPTS = RUN_GENERATE | RUN_LOGITS,
    CHOICE = RUN_GENERATE | RUN_CHAT,
};

/* An option's other names, those of other programs, stand below its own. */
static const struct argument table[] = {
    {"text", 1, OPT_TEXT, PROMPTS},
    {"prompt", 1, OPT_TEXT, PROMPTS},
    {"file", 1, OPT_FILE, PROMPTS},
    {"prompt-ids", 1, OPT_PROMPT_IDS, PROMPTS},
    {"prompts", 1, OPT_PROMPTS, PROMPTS},
    {"tokens", 1, OPT_N, CHOICE},
    {"max-tokens", 1, OPT_N, CHOICE},
    {"max-new-tokens", 1, OPT_N, CHOICE},
    {"n-predict", 1, OPT_N, CHOICE},
    {"temp", 1, OPT_TEMP, CHOICE},
    {"temperature", 1, OPT_TEMP, CHOICE},
    {"top-k", 1, OPT_TOP_K, CHOICE},
    {"top-p", 1, OPT_TOP_P, CHOICE},
    {"min-p", 1, OPT_MIN_P, CHOICE},
    {"seed", 1, OPT_SEED, CHOICE},
    {"stop", 1, OPT_STOP, CHOICE},
    {"repetition-penalty", 1, OPT_PENALTY, CHOICE},
    {"repeat-penalty", 1, OPT_PENALTY, CHOICE},
    {"chat", 0, OPT_CHAT, RUN_GENERATE},
    {"chat-template", 1, OPT_CHAT_TEMPLATE, CHOICE | RUN_RENDER},
    {"system", 1, OPT_SYSTEM, CHOICE},
    {"system-prompt", 1, OPT_SYSTEM, CHOICE},
    {"parse-special", 0, OPT_PARSE_SPECIAL, CHOICE},
    {"stats", 0, OPT_STATS, RUN_CHAT},
    {"history", 1, OPT_HISTORY, RUN_CHAT},
    {"no-reuse", 0, OPT_NO_REUSE, RUN_CHAT},
    {"ignore-eos", 0, OPT_IGNORE_EOS, RUN_GENERATE},
    {"ids", 0, OPT_IDS, RUN_GENERATE},
    {"json", 0, OPT_JSON, RUN_GENERATE | RUN_INFO},
    {"output", 1, OPT_OUTPUT, RUN_LOGITS},
    {"record", 0, OPT_RECORD, RUN_SELFTEST},
    {"template", 1, OPT_TEMPLATE, RUN_RENDER},
    {"now", 1, OPT_NOW, RUN_RENDER},
    {"origin", 0, OPT_ORIGIN, RUN_RENDER},
    {"context", 1, OPT_CONTEXT, PROMPTS | RUN_CHAT},
    {"ctx-size", 1, OPT_CONTEXT, PROMPTS | RUN_CHAT},
    {"kv-dtype", 1, OPT_KV_DTYPE, PROMPTS | RUN_CHAT},
    {"layers", 1, OPT_LAYERS, PROMPTS | RUN_CHAT},
    {"chunk", 1, OPT_CHUNK, MACHINE},
    {"threads", 1, OPT_THREADS, MACHINE},
    {"pin", 1, OPT_PIN, MACHINE},
    {"isa", 1, OPT_ISA, MACHINE},
    {"device", 1, OPT_DEVICE, MACHINE},
    {"mem-fraction", 1, OPT_MEM_FRACTION, MACHINE},
    {"share-gpu", 0, OPT_SHARE_GPU, MACHINE},
    {"deadline", 1, OPT_DEADLINE, MACHINE},
    {"exact", 0, OPT_EXACT, MACHINE},
    {"fast", 0, OPT_FAST, RUN_LOGITS},
    {"verify", 1, OPT_VERIFY, MACHINE},
    {"trace", 1, OPT_TRACE, PROMPTS},
    {"report", 1, OPT_REPORT, MACHINE},
    {"decode", 0, OPT_DECODE, RUN_TOKENIZE},
    {"no-special", 0, OPT_NO_SPECIAL, RUN_TOKENIZE},
    {"text", 0, OPT_PLAIN, RUN_TOKENIZE},
    {"verbose", 0, OPT_VERBOSE, MACHINE},
    {"quiet", 0, OPT_QUIET, MACHINE},
    {"help", 0, OPT_HELP, MACHINE | RUN_TOKENIZE | RUN_RENDER | RUN_INFO},
    {0},
};

static bool bad(int id, const char *value, const char *expected, struct tp_error *err)
{
    return argument_bad(table, id, value, expected, err);
}

static bool parse_real(int id, const char *value, double min, double max, double *out, bool *given,
                       struct tp_error *err)
{
    char expected[64];
    snprintf(expected, sizeof expected, "a number from %g to %g", min, max);
    *given = true;
    return (tp_parse_double(value, out) && *out >= min && *out <= max) ||
           bad(id, value, expected, err);
}

static bool parse_isa(struct run_options *o, const char *value, struct tp_error *err)
{
    static const char *const names[] = {"scalar", "avx2", "avx512", "avx512bf16"};
    bool known = false;
    if (strcmp(value, "amx") == 0)
        return tp_fail(err, TP_E_UNSUPPORTED, "--isa amx: not in this version");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        known |= strcmp(value, names[i]) == 0;
    o->isa = value;
    return known || bad(OPT_ISA, value, "scalar, avx2, avx512 or avx512bf16", err);
}

static bool parse_kv_dtype(struct run_options *o, const char *value, struct tp_error *err)
{
    return (dtype_from_name(value, &o->kv_dtype)) ||
           bad(OPT_KV_DTYPE, value, "f32, bf16 or f16", err);
}

static bool parse_device(struct run_options *o, const char *value, struct tp_error *err)
{
    bool cuda = strcmp(value, "cuda") == 0;
    o->device = cuda ? &device_cuda : &device_cpu;
    return cuda || strcmp(value, "cpu") == 0 || bad(OPT_DEVICE, value, "cpu or cuda", err);
}

static bool parse_pin(struct run_options *o, const char *value, struct tp_error *err)
{
    o->pin = strcmp(value, "yes") == 0 ? PIN_YES : strcmp(value, "no") == 0 ? PIN_NO : PIN_AUTO;
    return o->pin != PIN_AUTO || strcmp(value, "auto") == 0 ||
           bad(OPT_PIN, value, "auto, yes or no", err);
}

static bool parse_report(struct report_form *form, const char *value, struct tp_error *err)
{
    form->json = strcmp(value, "json") == 0;
    form->text = strcmp(value, "text") == 0;
    form->quiet |= strcmp(value, "none") == 0;
    return form->json || form->text || strcmp(value, "none") == 0 ||
           bad(OPT_REPORT, value, "text, json or none", err);
}

static bool add_stop(struct run_options *o, const char *value, struct tp_error *err)
{
    size_t n = strlen(value);
    if (n == 0 || n > RUN_STOP_BYTES_MAX || o->n_stops == RUN_STOPS_MAX)
        return bad(OPT_STOP, value, "at most 4 texts of 1 to 256 bytes", err);
    o->stops[o->n_stops++] = value;
    return true;
}

/* Options that choose the prompts and the tokens. */
static bool parse_choice(struct run_options *o, int id, const char *value, struct tp_error *err)
{
    switch (id) {
    case OPT_TEXT:
        o->prompts.text = value;
        return true;
    case OPT_FILE:
        return argument_path(table, id, value, &o->prompts.text_file, err);
    case OPT_PROMPT_IDS:
        o->prompts.prompt_ids = value;
        return true;
    case OPT_PROMPTS:
        return argument_path(table, id, value, &o->prompts.prompts_file, err);
    case OPT_N:
        return argument_u64(table, id, value, 0, UINT32_MAX, &o->prompts.n, err);
    case OPT_TEMP:
        return parse_real(id, value, 0, 1000, &o->choice.temperature, &o->choice.given_temperature,
                          err);
    case OPT_TOP_K:
        o->choice.given_top_k = true;
        return argument_u64(table, id, value, 0, UINT32_MAX, &o->choice.top_k, err);
    case OPT_TOP_P:
        return parse_real(id, value, 0, 1, &o->choice.top_p, &o->choice.given_top_p, err);
    case OPT_MIN_P:
        return parse_real(id, value, 0, 1, &o->choice.min_p, &o->choice.given_min_p, err);
    case OPT_PENALTY:
        return parse_real(id, value, 1e-3, 1e3, &o->choice.penalty, &o->choice.given_penalty, err);
    case OPT_SEED:
        return argument_u64(table, id, value, 0, UINT64_MAX, &o->choice.seed, err);
    case OPT_STOP:
        return add_stop(o, value, err);
    case OPT_IGNORE_EOS:
        return o->ignore_eos = true;
    case OPT_IDS:
        return o->ids = true;
    default:
        tp_assert(id == OPT_JSON);
        return o->json = true;
    }
}

/* Options of conversations. */
static bool parse_chat(struct run_options *o, int id, const char *value, struct tp_error *err)
{
    switch (id) {
    case OPT_CHAT:
        return o->chat = true;
    case OPT_CHAT_TEMPLATE:
        o->chat_template = value;
        return true;
    case OPT_SYSTEM:
        o->prompts.system = value;
        return true;
    case OPT_PARSE_SPECIAL:
        return o->parse_special = true;
    case OPT_STATS:
        return o->stats = true;
    case OPT_HISTORY:
        return argument_path(table, id, value, &o->history, err);
    case OPT_NO_REUSE:
        return o->no_reuse = true;
    default:
        return parse_choice(o, id, value, err);
    }
}

/* Options of the machine, and the rest. */
static bool take(void *to, int id, const char *value, struct tp_error *err)
{
    struct run_options *o = to;
    uint64_t threads, seconds;
    bool given;
    switch (id) {
    case OPT_OUTPUT:
        return argument_path(table, id, value, &o->output, err);
    case OPT_RECORD:
        return o->record = true;
    case OPT_DECODE:
        return o->decode = true;
    case OPT_NO_SPECIAL:
        return o->no_special = true;
    case OPT_PLAIN:
        return o->plain = true;
    case OPT_TEMPLATE:
        return argument_path(table, id, value, &o->template_file, err);
    case OPT_NOW:
        o->now = value;
        return true;
    case OPT_ORIGIN:
        return o->origin = true;
    case OPT_CONTEXT:
        return argument_u64(table, id, value, 1, UINT64_MAX >> 1, &o->context, err);
    case OPT_KV_DTYPE:
        return parse_kv_dtype(o, value, err);
    case OPT_CHUNK:
        return argument_u64(table, id, value, 1, RUN_CHUNK_MAX, &o->chunk, err);
    case OPT_LAYERS:
        return argument_u64(table, id, value, 1, MODEL_LAYERS_MAX, &o->layers, err);
    case OPT_THREADS:
        if (!argument_u64(table, id, value, 1, RUN_THREADS_MAX, &threads, err))
            return false;
        o->threads = (int)threads;
        return true;
    case OPT_PIN:
        return parse_pin(o, value, err);
    case OPT_ISA:
        return parse_isa(o, value, err);
    case OPT_DEVICE:
        return parse_device(o, value, err);
    case OPT_MEM_FRACTION:
        return parse_real(id, value, 0.01, 1, &o->memory_fraction, &given, err);
    case OPT_SHARE_GPU:
        return o->share = true;
    case OPT_DEADLINE:
        if (!argument_u64(table, id, value, 1, RUN_DEADLINE_MAX, &seconds, err))
            return false;
        o->deadline = (uint32_t)seconds;
        return true;
    case OPT_EXACT:
        return o->exact = true;
    case OPT_FAST:
        return o->fast = true;
    case OPT_VERIFY:
        o->header_only = strcmp(value, "header") == 0;
        return o->header_only || strcmp(value, "full") == 0 ||
               bad(id, value, "header or full", err);
    case OPT_TRACE:
        return argument_path(table, id, value, &o->trace, err);
    case OPT_REPORT:
        return parse_report(&o->report, value, err);
    case OPT_VERBOSE:
        return o->report.text = true;
    case OPT_QUIET:
        return o->report.quiet = true;
    case OPT_HELP:
        return o->help = true;
    default:
        return parse_chat(o, id, value, err);
    }
}

/* Of the fast mode only some chunks are made. */
static bool check_chunk(const struct run_options *o, struct tp_error *err)
{
    const uint32_t *chunks = o->device->chunks;
    char list[128] = "", *end = list;
    if (!o->chunk || !chunks || !run_options_fast(o))
        return true;
    for (; *chunks; chunks++) {
        if (o->chunk == *chunks)
            return true;
        end += sprintf(end, "%s%u", end > list ? ", " : "", *chunks);
    }
    return tp_fail(err, TP_E_USAGE, "--chunk %llu: one of %s expected; others go with --exact",
                   (unsigned long long)o->chunk, list);
}

/* What is no option: a bundle, and for some a text. */
static bool take_args(struct run_options *o, int n, struct tp_error *err)
{
    const bool text = o->command & (PROMPTS | RUN_TOKENIZE), none = o->command == RUN_INFO;
    if (!arguments_count(o->args, n, !none && o->command != RUN_RENDER, none ? 0 : 1 + text,
                         o->command == RUN_TOKENIZE ? "one BUNDLE or FILE" : "one BUNDLE", err) ||
        !arguments_paths(o->args, n > 0, err))
        return false;
    o->bundle = o->args[0];
    return true;
}

static bool check(const struct run_options *o, enum run_command command, const char *name,
                  struct tp_error *err)
{
    if (command == RUN_RENDER && o->template_file && o->chat_template)
        return tp_fail(err, TP_E_USAGE, "%s: --template and --chat-template exclude each other",
                       name);
    if (command == RUN_RENDER)
        return !o->bundle != !o->template_file ||
               tp_fail(err, TP_E_USAGE, "%s: %s given, one expected", name,
                       o->bundle ? "a bundle and --template" : "neither bundle nor --template");
    if (o->device && !o->device->check_isa(o->isa, err))
        return false;
    int prompts = !!o->args[1] + !!o->prompts.text + !!o->prompts.text_file +
                  !!o->prompts.prompt_ids + !!o->prompts.prompts_file;
    if (command & PROMPTS && prompts != 1)
        return tp_fail(err, TP_E_USAGE,
                       "%s: %s of TEXT, -p, -f, --prompt-ids, --prompts given, one expected", name,
                       prompts ? "more than one" : "none");
    if (o->decode && o->args[1])
        return tp_fail(err, TP_E_USAGE, "%s: --decode reads standard input, a text was given too",
                       name);
    if (command == RUN_LOGITS && !o->output)
        return tp_fail(err, TP_E_USAGE, "-o is missing: the file to make");
    const char *lonely = o->chat             ? NULL
                         : o->prompts.system ? "--system"
                         : o->parse_special  ? "--parse-special"
                         : o->chat_template  ? "--chat-template"
                                             : NULL;
    if (command == RUN_GENERATE && lonely)
        return tp_fail(err, TP_E_USAGE, "%s: %s goes with --chat", name, lonely);
    if (o->chat && o->prompts.prompt_ids)
        return tp_fail(err, TP_E_USAGE, "%s: --chat and --prompt-ids exclude each other", name);
    if (o->fast && (o->exact || o->trace))
        return tp_fail(err, TP_E_USAGE, "%s: --fast and %s exclude each other", name,
                       o->exact ? "--exact" : "--trace");
    if (o->device && !check_chunk(o, err))
        return false;
    if (o->ids && o->json)
        return tp_fail(err, TP_E_USAGE, "%s: --ids and --json exclude each other", name);
    return true;
}

bool run_options_parse(struct run_options *options, enum run_command command, int argc, char **argv,
                       struct tp_error *err)
{
    *options = (struct run_options){
        .command = command,
        .threads = processors_available(),
        .device = &device_cpu,
        .memory_fraction = 0.9,
        .prompts.n = command == RUN_CHAT ? 512 : 128,
    };
    struct arguments arguments = {.table = table,
                                  .command = command,
                                  .take = take,
                                  .to = options,
                                  .rest = options->args,
                                  .rest_max = RUN_ARGS_MAX};
    if (!arguments_parse(&arguments, argc, argv, err))
        return false;
    if (options->help)
        return true;
    if (!take_args(options, arguments.n_rest, err) || !check(options, command, argv[0], err))
        return false;
    if (options->args[1])
        options->prompts.text = options->args[1];
    return true;
}
