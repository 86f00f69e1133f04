#include "options.h"

#include "checked.h"
#include "threads.h"
#include <getopt.h>
#include <string.h>

/* clang-format off */
enum option_id {
    OPT_OUTPUT = 'o', OPT_QUIET = 'q', OPT_HELP = 'h',
    OPT_TP = 256, OPT_QUANT, OPT_GROUP, OPT_OFFSET, OPT_DTYPE, OPT_SELFTEST, OPT_COMPRESS, OPT_MEM,
    OPT_THREADS, OPT_FORCE, OPT_RESTART, OPT_DRY_RUN, OPT_JSON, OPT_GPU_MEM, OPT_CONTEXT, OPT_BATCH,
    OPT_TENSORS, OPT_AGAINST, OPT_IGNORE_KEY, OPT_FOLLOW_LINKS,
};
/* clang-format on */

static const struct option long_options[] = {
    {"output", required_argument, NULL, OPT_OUTPUT},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"help", no_argument, NULL, OPT_HELP},
    {"tp", required_argument, NULL, OPT_TP},
    {"quant", required_argument, NULL, OPT_QUANT},
    {"group", required_argument, NULL, OPT_GROUP},
    {"offset", required_argument, NULL, OPT_OFFSET},
    {"dtype", required_argument, NULL, OPT_DTYPE},
    {"no-selftest", no_argument, NULL, OPT_SELFTEST},
    {"compress", required_argument, NULL, OPT_COMPRESS},
    {"mem", required_argument, NULL, OPT_MEM},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"force", no_argument, NULL, OPT_FORCE},
    {"restart", no_argument, NULL, OPT_RESTART},
    {"dry-run", no_argument, NULL, OPT_DRY_RUN},
    {"json", no_argument, NULL, OPT_JSON},
    {"gpu-mem", required_argument, NULL, OPT_GPU_MEM},
    {"context", required_argument, NULL, OPT_CONTEXT},
    {"batch", required_argument, NULL, OPT_BATCH},
    {"tensors", no_argument, NULL, OPT_TENSORS},
    {"against", required_argument, NULL, OPT_AGAINST},
    {"ignore-key", required_argument, NULL, OPT_IGNORE_KEY},
    {"follow-links", no_argument, NULL, OPT_FOLLOW_LINKS},
    {NULL, 0, NULL, 0},
};

/* name is an item of the comma-separated list */
static bool listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = list; (at = strstr(at, name)); at += n)
        if ((at == list || at[-1] == ',') && (at[n] == ',' || at[n] == '\0'))
            return true;
    return false;
}

static bool bad(const char *option, const char *value, const char *expected, struct tp_error *err)
{
    char name[TP_NAME_BUF];
    return tp_fail(err, TP_E_USAGE, "--%s: \"%s\" given, %s expected", option,
                   tp_name_cut(name, value, strlen(value)), expected);
}

static bool parse_tp(struct options *o, const char *value, struct tp_error *err)
{
    o->n_tp = 0;
    for (const char *at = value;; at++) {
        size_t n = strcspn(at, ",");
        uint64_t tp;
        if (!tp_parse_u64(at, n, &tp))
            return bad("tp", value, "a number, or numbers with commas", err);
        if (tp < 1 || tp > PARTITION_TP_MAX)
            return tp_fail(err, TP_E_TP_RANGE, "--tp %llu: 1 to %d ranks are possible",
                           (unsigned long long)tp, PARTITION_TP_MAX);
        if (o->n_tp == OPTIONS_TP_LIST_MAX)
            return bad("tp", value, "at most 48 numbers", err);
        o->tp[o->n_tp++] = tp;
        at += n;
        if (*at == '\0')
            return true;
    }
}

static bool parse_count(const char *option, const char *value, uint64_t most, uint64_t *out,
                        struct tp_error *err)
{
    return (tp_parse_u64(value, strlen(value), out) && *out >= 1 && *out <= most) ||
           tp_fail(err, TP_E_USAGE, "--%s: \"%.64s\" given, 1 to %llu expected", option, value,
                   (unsigned long long)most);
}

/* What of a stored format the command line says. */
struct quant_words {
    const char *quant, *group, *offset; /* NULL: not given */
};

static bool parse_quant(struct options *o, const struct quant_words *words, struct tp_error *err)
{
    const char *quant = words->quant ? words->quant : "none",
               *offset = words->offset ? words->offset : "none";
    uint64_t group = 0;
    if (strcmp(quant, "w8a8") == 0)
        return tp_fail(err, TP_E_UNSUPPORTED, "--quant %s: not supported by this version", quant);
    bool none = strcmp(quant, "none") == 0;
    if (!none && !stored_by_options(quant, 0, "none"))
        return bad("quant", quant, "none, int8, fp8 or int4", err);
    if (words->group && !tp_parse_u64(words->group, strlen(words->group), &group))
        return bad("group", words->group, "0, 32, 64 or 128", err);
    if (strcmp(offset, "none") != 0 && strcmp(offset, "zero") != 0 && strcmp(offset, "min") != 0)
        return bad("offset", offset, "none, zero or min", err);
    o->quant = none ? NULL : stored_by_options(quant, group, offset);
    bool known = none ? group == 0 && strcmp(offset, "none") == 0 : o->quant != NULL;
    return known ||
           tp_fail(err, TP_E_UNSUPPORTED,
                   "--quant %s: no such format%s%s%s%s (int4 has --group 32, 64, 128, --offset "
                   "none, zero, min)",
                   quant, words->group ? " with --group " : "", words->group ? words->group : "",
                   words->offset ? " with --offset " : "", words->offset ? words->offset : "");
}

static bool parse_number(struct options *o, int id, const char *value, struct tp_error *err)
{
    uint64_t n;
    switch (id) {
    case OPT_MEM:
        return (tp_parse_size(value, &o->memory) && o->memory > 0) ||
               bad("mem", value, "bytes, or with K, M, G", err);
    case OPT_GPU_MEM:
        return (tp_parse_size(value, &o->gpu_memory) && o->gpu_memory > 0) ||
               bad("gpu-mem", value, "bytes, or with K, M, G", err);
    case OPT_CONTEXT:
        return parse_count("context", value, UINT64_C(1) << 40, &o->context, err);
    case OPT_BATCH:
        return parse_count("batch", value, 1 << 20, &o->batch, err);
    default: /* OPT_THREADS */
        if (!parse_count("threads", value, 1024, &n, err))
            return false;
        o->threads = (int)n;
        return true;
    }
}

static bool take(struct options *o, struct quant_words *words, int id, const char *value,
                 struct tp_error *err)
{
    switch (id) {
    case OPT_OUTPUT:
        o->output = value;
        return *value || bad("output", value, "a path", err);
    case OPT_AGAINST:
        o->against = value;
        return true;
    case OPT_IGNORE_KEY:
        if (o->n_ignore_keys == OPTIONS_IGNORE_MAX)
            return bad("ignore-key", value, "at most 16 of them", err);
        o->ignore_keys[o->n_ignore_keys++] = value;
        return true;
    case OPT_TP:
        return parse_tp(o, value, err);
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
               bad("dtype", value, "keep, f32, bf16 or f16", err);
    case OPT_COMPRESS:
        o->compress = strcmp(value, "zstd") == 0 ? COMPRESS_ZSTD : COMPRESS_NONE;
        return o->compress || strcmp(value, "none") == 0 ||
               bad("compress", value, "none or zstd", err);
    case OPT_MEM:
    case OPT_GPU_MEM:
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
    case OPT_DRY_RUN:
        return o->dry_run = true;
    case OPT_JSON:
        return o->json = true;
    case OPT_TENSORS:
        return o->tensors = true;
    case OPT_QUIET:
        return o->quiet = true;
    default: /* OPT_HELP */
        return o->help = true;
    }
}

static const char *long_name(int id)
{
    for (const struct option *o = long_options; o->name; o++)
        if (o->val == id)
            return o->name;
    return "?";
}

bool options_parse(struct options *options, int argc, char **argv, const char *allowed,
                   struct tp_error *err)
{
    *options = (struct options){.memory = UINT64_C(1) << 30, .context = 8192, .batch = 1};
    options->threads = threads_available();
    struct quant_words words = {NULL, NULL, NULL};
    opterr = 0;
    optind = 1;
    for (int id; (id = getopt_long(argc, argv, ":o:qh", long_options, NULL)) != -1;) {
        if (id == ':')
            return tp_fail(err, TP_E_USAGE, "%s: needs a value", argv[optind - 1]);
        if (id == '?' || (id != OPT_HELP && !listed(allowed, long_name(id))))
            return tp_fail(err, TP_E_USAGE, "%.64s: no option of tpshard %s (--help lists them)",
                           id == '?' ? argv[optind - 1] : long_name(id), argv[0]);
        if (!take(options, &words, id, optarg, err))
            return false;
    }
    for (; optind < argc; optind++) {
        if (options->n_args == OPTIONS_ARGS_MAX)
            return tp_fail(err, TP_E_USAGE, "%.64s: too many arguments", argv[optind]);
        options->args[options->n_args++] = argv[optind];
    }
    return parse_quant(options, &words, err);
}
