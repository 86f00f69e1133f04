/* tprun info: what this machine has to run on. One object, printed as JSON or as lines. */
#include "cmd.h"

#include "json.h"
#include "shown.h"
#include "version.h"
#include <stdio.h>
#include <string.h>

enum { SCHEMA = 1, NAME = 64 };

/* {"none": why} where there is no such device. */
static json_t *device_info(const struct device_type *device, struct tp_error *err)
{
    struct tp_error why = {0};
    json_t *object = device->info(&why);
    if (object)
        return object;
    if (why.code != TP_E_MEMORY)
        return json_pack("{s:s}", "none", why.text);
    *err = why;
    return NULL;
}

static json_t *machine_info(struct tp_error *err)
{
    json_t *cpu = device_info(&device_cpu, err);
    json_t *cuda = cpu ? device_info(&device_cuda, err) : NULL;
    return json_pack("{s:i, s:{s:s, s:s, s:s, s:i, s:i, s:i}, s:o, s:o}", "schema", SCHEMA, "tprun",
                     "version", version_built.number, "commit", version_built.commit, "compiler",
                     version_built.compiler, "bundle_format", BUNDLE_FORMAT_VERSION,
                     "rank_file_format", SHARD_VERSION, "tokenizer_format", TOKENIZER_VERSION,
                     device_cpu.name, cpu, device_cuda.name, cuda);
}

static void print_value(const json_t *value, bool bytes)
{
    const json_int_t n = json_integer_value(value);
    if (!json_is_integer(value))
        shown_put(stdout, json_is_string(value) ? json_string_value(value) : "none");
    else if (bytes)
        printf("%lld bytes (%.1f GiB)", (long long)n, (double)n / (1 << 30));
    else
        printf("%lld", (long long)n);
}

/* Lines "name: value"; an object's begin with its name, and in a list its number. */
static void print_lines(const char *name, const json_t *value)
{
    char inside[NAME];
    const char *key;
    const json_t *item;
    size_t i;
    json_object_foreach((json_t *)value, key, item)
    {
        snprintf(inside, sizeof inside, "%s%s%s", name, *name ? " " : "", key);
        print_lines(inside, item);
    }
    if (json_is_object(value))
        return;
    if (json_is_object(json_array_get(value, 0))) {
        json_array_foreach(value, i, item)
        {
            snprintf(inside, sizeof inside, "%s %zu", name, i);
            print_lines(inside, item);
        }
        return;
    }
    const char *unit = strstr(name, "_bytes");
    for (const char *at = name; at != unit && *at; at++)
        putchar(*at == '_' ? ' ' : *at);
    fputs(": ", stdout);
    json_array_foreach(value, i, item)
    {
        fputs(i ? " " : "", stdout);
        print_value(item, unit);
    }
    if (!json_is_array(value))
        print_value(value, unit);
    putchar('\n');
}

bool cmd_info(const struct run_options *options, struct report *report, struct tp_error *err)
{
    json_t *info = machine_info(err);
    (void)report;
    if (!info)
        return tp_fail(err, TP_E_MEMORY, "what is here does not fit in memory");
    if (options->json)
        return json_print(info, err);
    json_object_del(info, "schema");
    print_lines("", info);
    json_decref(info);
    return true;
}
