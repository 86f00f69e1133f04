#include "options.h"

#include "arguments.h"
#include "checked.h"
#include "processors.h"
#include <string.h>

/* clang-format off */
enum option_id {
    OPT_OUTPUT = 'o', OPT_QUIET = 'q', OPT_VERBOSE = 'v', OPT_HELP = 'h',
    OPT_TP = 256, OPT_QUANT, OPT_GROUP, OPT_OFFSET, OPT_DTYPE, OPT_SELFTEST, OPT_COMPRESS, OPT_MEM,
    OPT_THREADS, OPT_FORCE, OPT_RESTART, OPT_DRY_RUN, OPT_JSON, OPT_GPU_MEM, OPT_CONTEXT, OPT_BATCH,
    OPT_TENSORS, OPT_AGAINST, OPT_IGNORE_KEY, OPT_FOLLOW_LINKS, OPT_STRICT, OPT_MEM_FRACTION,
    OPT_LAYERS,
};
/* clang-format on */

/* clang-format off */
enum {
    CONVERT = COMMAND_CONVERT, RESHARD = COMMAND_RESHARD, EXPORT = COMMAND_EXPORT,
    PLAN = COMMAND_PLAN, INSPECT = COMMAND_INSPECT, VERIFY = COMMAND_VERIFY, DIFF = COMMAND_DIFF,
    TOKENIZER = COMMAND_TOKENIZER, ALL = 255,
};
static const struct argument table[] = {
    {"output", 1, OPT_OUTPUT, CONVERT | RESHARD | EXPORT | TOKENIZER | PLAN},
    {"quiet", 0, OPT_QUIET, CONVERT | RESHARD | EXPORT | VERIFY | TOKENIZER},
    {"verbose", 0, OPT_VERBOSE, CONVERT | RESHARD | EXPORT},
    {"help", 0, OPT_HELP, ALL},
    {"tp", 1, OPT_TP, CONVERT | RESHARD | PLAN},
    {"quant", 1, OPT_QUANT, CONVERT | PLAN},
    {"group", 1, OPT_GROUP, CONVERT | PLAN},
    {"offset", 1, OPT_OFFSET, CONVERT | PLAN},
    {"dtype", 1, OPT_DTYPE, CONVERT | PLAN},
    {"no-selftest", 0, OPT_SELFTEST, CONVERT},
    {"compress", 1, OPT_COMPRESS, CONVERT},
    {"mem", 1, OPT_MEM, CONVERT | RESHARD | EXPORT},
    {"threads", 1, OPT_THREADS, CONVERT | RESHARD | EXPORT | VERIFY | DIFF | PLAN},
    {"force", 0, OPT_FORCE, CONVERT | RESHARD | EXPORT},
    {"restart", 0, OPT_RESTART, CONVERT | RESHARD | EXPORT},
    {"dry-run", 0, OPT_DRY_RUN, CONVERT},
    {"json", 0, OPT_JSON, CONVERT | PLAN | INSPECT | DIFF},
    {"gpu-mem", 1, OPT_GPU_MEM, PLAN},
    {"mem-fraction", 1, OPT_MEM_FRACTION, PLAN},
    {"context", 1, OPT_CONTEXT, PLAN},
    {"batch", 1, OPT_BATCH, PLAN},
    {"layers", 1, OPT_LAYERS, CONVERT | PLAN},
    {"tensors", 0, OPT_TENSORS, INSPECT},
    {"against", 1, OPT_AGAINST, VERIFY},
    {"ignore-key", 1, OPT_IGNORE_KEY, CONVERT | PLAN | VERIFY | TOKENIZER},
    {"follow-links", 0, OPT_FOLLOW_LINKS, CONVERT | TOKENIZER},
    {"strict", 0, OPT_STRICT, CONVERT | TOKENIZER},
    {0},
};
/* clang-format on */

static bool bad(int id, const char *value, const char *expected, struct tp_error *err)
{
    return argument_bad(table, id, value, expected, err);
}

static bool parse_tp(struct options *o, bool list, const char *value, struct tp_error *err)
{
    o->n_tp = 0;
    if (!list && value[strspn(value, "0123456789")])
        return bad(OPT_TP, value, "a number from 1 to 48", err);
    for (const char *at = value;; at++) {
        size_t n = strcspn(at, ",");
        uint64_t tp;
        if (!tp_parse_u64(at, n, &tp))
            return bad(OPT_TP, value,
                       list ? "numbers from 1 to 48 with commas" : "a number from 1 to 48", err);
        if (tp < 1 || tp > PARTITION_TP_MAX)
            return tp_fail(err, TP_E_TP_RANGE, "--tp %llu: 1 to %d ranks are possible",
                           (unsigned long long)tp, PARTITION_TP_MAX);
        if (o->n_tp == OPTIONS_TP_LIST_MAX)
            return bad(OPT_TP, value, "at most 48 numbers", err);
        o->tp[o->n_tp++] = tp;
        at += n;
        if (*at == '\0')
            return true;
    }
}

struct parse {
    struct options *options;
    enum command_id command;
    const char *quant, *group, *offset; /* NULL: not given */
};

static bool parse_quant(const struct parse *words, struct tp_error *err)
{
    struct options *o = words->options;
    const char *quant = words->quant ? words->quant : "none",
               *offset = words->offset ? words->offset : "none";
    uint64_t group = 0;
    if (strcmp(quant, "w8a8") == 0)
        return tp_fail(err, TP_E_UNSUPPORTED, "--quant %s: not supported by this version", quant);
    bool none = strcmp(quant, "none") == 0;
    if (!none && !stored_by_options(quant, 0, "none"))
        return bad(OPT_QUANT, quant, "none, int8, fp8 or int4", err);
    if (words->group && !tp_parse_u64(words->group, strlen(words->group), &group))
        return bad(OPT_GROUP, words->group, "0, 32, 64 or 128", err);
    if (strcmp(offset, "none") != 0 && strcmp(offset, "zero") != 0 && strcmp(offset, "min") != 0)
        return bad(OPT_OFFSET, offset, "none, zero or min", err);
    o->quant = none ? NULL : stored_by_options(quant, group, offset);
    bool known = none ? group == 0 && strcmp(offset, "none") == 0 : o->quant != NULL;
    return known ||
           tp_fail(
               err, TP_E_UNSUPPORTED,
               "--quant %s%s%s%s%s: no such format; int4 alone takes --group 32, 64 or 128, and "
               "--offset none, zero or min",
               quant, words->group ? " --group " : "", words->group ? words->group : "",
               words->offset ? " --offset " : "", words->offset ? words->offset : "");
}

static bool parse_size(int id, const char *value, uint64_t *bytes, struct tp_error *err)
{
    return (tp_parse_size(value, bytes) && *bytes > 0) ||
           bad(id, value, "a size such as 512M, 16G or 80 GB", err);
}

static bool parse_number(struct options *o, int id, const char *value, struct tp_error *err)
{
    uint64_t n;
    switch (id) {
    case OPT_MEM:
        return parse_size(id, value, &o->memory, err);
    case OPT_GPU_MEM:
        return parse_size(id, value, &o->gpu_memory, err) &&
               (o->gpu_memory >= 1 << 20 || bad(id, value, "at least 1M, such as 16G,", err));
    case OPT_MEM_FRACTION:
        return (tp_parse_double(value, &o->memory_fraction) && o->memory_fraction >= 0.01 &&
                o->memory_fraction <= 1) ||
               bad(id, value, "0.01 to 1", err);
    case OPT_LAYERS:
        return argument_u64(table, id, value, 1, MODEL_LAYERS_MAX, &o->layers, err);
    case OPT_CONTEXT:
        return argument_u64(table, id, value, 1, UINT64_C(1) << 40, &o->context, err);
    case OPT_BATCH:
        return argument_u64(table, id, value, 1, 1 << 20, &o->batch, err);
    default: /* OPT_THREADS */
        if (!argument_u64(table, id, value, 1, 1024, &n, err))
            return false;
        o->threads = (int)n;
        return true;
    }
}

static bool take(void *to, int id, const char *value, struct tp_error *err)
{
    struct parse *words = to;
    struct options *o = words->options;
    switch (id) {
    case OPT_OUTPUT:
        return argument_path(table, id, value, &o->output, err);
    case OPT_AGAINST:
        return argument_path(table, id, value, &o->against, err);
    case OPT_IGNORE_KEY:
        if (o->n_ignore_keys == OPTIONS_IGNORE_MAX)
            return bad(OPT_IGNORE_KEY, value, "at most 16 of them", err);
        o->ignore_keys[o->n_ignore_keys++] = value;
        return true;
    case OPT_TP:
        return parse_tp(o, words->command == COMMAND_PLAN, value, err);
    case OPT_QUANT:
        words->quant = value;
        return true;
    case OPT_GROUP:
        words->group = value;
        return true;
    case OPT_OFFSET:
        words->offset = value;
        return true;
    case OPT_DTYPE:
        return strcmp(value, "keep") == 0 || dtype_from_name(value, &o->dtype) ||
               bad(OPT_DTYPE, value, "keep, f32, bf16 or f16", err);
    case OPT_COMPRESS:
        o->compress = strcmp(value, "zstd") == 0 ? COMPRESS_ZSTD : COMPRESS_NONE;
        return o->compress || strcmp(value, "none") == 0 ||
               bad(OPT_COMPRESS, value, "none or zstd", err);
    case OPT_MEM:
    case OPT_GPU_MEM:
    case OPT_MEM_FRACTION:
    case OPT_LAYERS:
    case OPT_CONTEXT:
    case OPT_BATCH:
    case OPT_THREADS:
        return parse_number(o, id, value, err);
    case OPT_SELFTEST:
        return o->no_selftest = true;
    case OPT_FORCE:
        return o->force = true;
    case OPT_RESTART:
        return o->restart = true;
    case OPT_FOLLOW_LINKS:
        return o->follow_links = true;
    case OPT_STRICT:
        return o->strict = true;
    case OPT_DRY_RUN:
        return o->dry_run = true;
    case OPT_JSON:
        return o->json = true;
    case OPT_TENSORS:
        return o->tensors = true;
    case OPT_QUIET:
        return o->quiet = true;
    case OPT_VERBOSE:
        return o->verbose = true;
    default: /* OPT_HELP */
        return o->help = true;
    }
}

static bool check(const struct options *o, enum command_id command, struct tp_error *err)
{
    if (command != COMMAND_TOKENIZER && o->output && strcmp(o->output, "-") == 0)
        return tp_fail(err, TP_E_USAGE, "-o -: a folder is made: name one");
    const char *lonely =
        command == COMMAND_CONVERT && o->json && !o->dry_run ? "--json goes with --dry-run"
        : o->memory_fraction > 0 && !o->gpu_memory           ? "--mem-fraction goes with --gpu-mem"
                                                             : NULL;
    return !lonely || tp_fail(err, TP_E_USAGE, "%s", lonely);
}

bool options_parse(struct options *options, enum command_id command, int argc, char **argv,
                   struct tp_error *err)
{
    *options = (struct options){.memory = UINT64_C(1) << 30, .context = 8192, .batch = 1};
    options->threads = processors_available();
    struct parse parse = {.options = options, .command = command};
    struct arguments arguments = {.table = table,
                                  .command = command,
                                  .take = take,
                                  .to = &parse,
                                  .rest = options->args,
                                  .rest_max = OPTIONS_ARGS_MAX};
    bool ok = arguments_parse(&arguments, argc, argv, err) && parse_quant(&parse, err);
    options->n_args = arguments.n_rest;
    return ok && (options->help || check(options, command, err));
}
