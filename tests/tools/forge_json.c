/* Changes of the manifest. */
#include "forge_change.h"

#include <stdarg.h>
#include <stdio.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))

void forge_say(struct forged *f, const char *fmt, ...)
{
    size_t n = strlen(f->changed);
    va_list args;
    va_start(args, fmt);
    vsnprintf(f->changed + n, sizeof f->changed - n, fmt, args);
    va_end(args);
}

uint64_t forge_number(struct forged *f, uint64_t old)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     2,
                                     3,
                                     15,
                                     16,
                                     17,
                                     255,
                                     256,
                                     4095,
                                     4096,
                                     4097,
                                     65535,
                                     65536,
                                     1 << 20,
                                     1 << 24,
                                     INT32_MAX,
                                     UINT32_C(1) << 31,
                                     UINT32_MAX,
                                     UINT64_C(1) << 32,
                                     UINT64_C(1) << 40,
                                     UINT64_C(1) << 53,
                                     UINT64_C(1) << 62,
                                     INT64_MAX,
                                     UINT64_C(1) << 63,
                                     UINT64_MAX};
    const uint64_t near[] = {old + 1, old - 1, old ^ 1, old * 2, old / 2, old + 16, -old};
    return forge_chance(f, 50) ? edges[forge_below(f, COUNT(edges))]
                               : near[forge_below(f, COUNT(near))];
}

/* ---- a value in place of another ---- */

static const char *const raws[] = {"-1",
                                   "1e400",
                                   "1.5",
                                   "NaN",
                                   "18446744073709551616",
                                   "-0",
                                   "1e2",
                                   "9007199254740993",
                                   "\"\\u0000\"",
                                   "\"\\ud800\"",
                                   "\"\x80\"",
                                   "01",
                                   "nul",
                                   "",
                                   "1, \"twice\": 2, \"twice\": 3"};

static json_t *strange(struct forged *f)
{
    static const char *const texts[] = {"",
                                        "x",
                                        "../../etc/passwd",
                                        "/etc/passwd",
                                        "a/b",
                                        "\xe2\x80\xae",
                                        ".",
                                        "f32",
                                        "int8",
                                        "int4-g32",
                                        "zstd",
                                        "none",
                                        "manifest.json",
                                        "rank-000-of-001.tps",
                                        "00000000000000000000000000000000"};
    switch (forge_below(f, 9)) {
    case 0:
        return json_null();
    case 1:
        return json_boolean(forge_chance(f, 50));
    case 2:
        return json_array();
    case 3:
        return json_object();
    case 4:
        return json_pack("[[]]");
    case 5:
        return json_real(forge_chance(f, 50) ? 1e300 : 1e-300);
    case 6:
        return json_string(texts[forge_below(f, COUNT(texts))]);
    case 7:
        f->raw = raws[forge_below(f, COUNT(raws))];
        return json_string(FORGE_RAW);
    default:
        return json_integer((json_int_t)forge_number(f, 7));
    }
}

static json_t *other_than(struct forged *f, const json_t *old)
{
    static const double reals[] = {0, -1, 1e-30, 1e-6, 0.5, 1, 2, 1e6, 1e18, 1e30};
    if (json_is_integer(old) && forge_chance(f, 70))
        return json_integer((json_int_t)forge_number(f, (uint64_t)json_integer_value(old)));
    if (json_is_real(old) && forge_chance(f, 70))
        return json_real(reals[forge_below(f, COUNT(reals))]);
    if (json_is_boolean(old) && forge_chance(f, 70))
        return json_boolean(!json_is_true(old));
    return strange(f);
}

/* ---- a place in the document ---- */

struct place {
    json_t *parent;
    const char *key; /* NULL: an index */
    size_t index, seen;
};

/* Of all values below `value` one, each as likely. */
static void choose(struct forged *f, json_t *value, struct place *place)
{
    const char *key;
    json_t *item;
    size_t i;
    json_object_foreach(value, key, item)
    {
        if (forge_below(f, ++place->seen) == 0)
            place->parent = value, place->key = key;
        choose(f, item, place);
    }
    json_array_foreach(value, i, item)
    {
        if (forge_below(f, ++place->seen) == 0)
            place->parent = value, place->key = NULL, place->index = i;
        choose(f, item, place);
    }
}

static json_t *value_at(const struct place *p)
{
    return p->key ? json_object_get(p->parent, p->key) : json_array_get(p->parent, p->index);
}

static void say_place(struct forged *f, const struct place *p, const json_t *value)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    if (p->key)
        forge_say(f, " %s", p->key);
    else
        forge_say(f, " [%zu]", p->index);
    forge_say(f, "=%.80s", forge_is_raw(value) ? f->raw : text ? text : "");
    free(text);
}

static void put(struct forged *f, const struct place *p, json_t *value)
{
    say_place(f, p, value);
    if (p->key)
        json_object_set_new(p->parent, p->key, value);
    else
        json_array_set_new(p->parent, p->index, value);
}

/* Removed, doubled, or made another. */
static void change_below(struct forged *f, json_t *value)
{
    struct place p = {0};
    choose(f, value, &p);
    if (!p.parent)
        return;
    unsigned how = (unsigned)forge_below(f, 100);
    if (how < 10 && p.key) {
        forge_say(f, " without %s", p.key);
        json_object_del(p.parent, p.key);
    } else if (how < 20 && !p.key) {
        forge_say(f, " [%zu] again", p.index);
        json_array_append_new(p.parent, json_deep_copy(value_at(&p)));
    } else if (how < 25 && !p.key) {
        forge_say(f, " without [%zu]", p.index);
        json_array_remove(p.parent, p.index);
    } else if (how < 30 && p.key) {
        json_object_set_new(p.parent, "x", strange(f));
        forge_say(f, " with x");
    } else {
        put(f, &p, other_than(f, value_at(&p)));
    }
}

static void some_changes(struct forged *f, json_t *value)
{
    for (uint64_t n = 1 + (forge_chance(f, 30) ? forge_below(f, 3) : 0); n > 0; n--)
        change_below(f, value);
}

void forge_manifest(struct forged *f)
{
    some_changes(f, f->manifest);
}

void forge_model(struct forged *f)
{
    some_changes(f, json_object_get(f->manifest, "model"));
}

void forge_lists(struct forged *f)
{
    static const char *const keys[] = {"files", "source", "recipe", "chat_templates", "leaves"};
    some_changes(f, json_object_get(f->manifest, keys[forge_below(f, COUNT(keys))]));
}

/* ---- a model that still fits its rank files ---- */

static double edge_of(struct forged *f)
{
    static const double edges[] = {1e-30, 1e-6, 0.1, 0.5, 1,   1.0000001, 2,    3,
                                   8,     32,   100, 1e4, 1e6, 1e12,      1e18, 1099511627776.0};
    return edges[forge_below(f, COUNT(edges))];
}

static void turn_rope(struct forged *f, json_t *rope)
{
    static const char *const types[] = {"default", "linear", "llama3", "yarn"};
    static const char *const numbers[] = {
        "theta",     "factor",    "low_freq_factor", "high_freq_factor", "original_positions",
        "beta_fast", "beta_slow", "attention_factor"};
    /* such as pass the checks, but for one or two */
    json_object_set_new(rope, "type", json_string(types[forge_below(f, COUNT(types))]));
    json_object_set_new(rope, "truncate", json_boolean(forge_chance(f, 50)));
    json_object_set_new(rope, "factor", json_real(8));
    json_object_set_new(rope, "low_freq_factor", json_real(1));
    json_object_set_new(rope, "high_freq_factor", json_real(4));
    json_object_set_new(rope, "original_positions", json_real(64));
    json_object_set_new(rope, "beta_fast", json_real(32));
    json_object_set_new(rope, "beta_slow", json_real(1));
    for (uint64_t n = 1 + forge_below(f, 2); n > 0; n--) {
        const char *key = numbers[forge_below(f, COUNT(numbers))];
        double value = edge_of(f);
        forge_say(f, " rope.%s=%g", key, value);
        json_object_set_new(rope, key, json_real(value));
    }
}

void forge_numbers(struct forged *f)
{
    static const char *const ids[] = {"bos_id", "pad_id", "max_positions"};
    json_t *model = json_object_get(f->manifest, "model");
    json_t *windows = json_object_get(model, "window"), *eos = json_object_get(model, "eos_ids");
    uint64_t vocab = (uint64_t)json_integer_value(json_object_get(model, "vocab"));
    const char *key = ids[forge_below(f, COUNT(ids))];
    int64_t id = vocab && forge_chance(f, 70) ? (int64_t)forge_below(f, vocab) : -1;
    switch (forge_below(f, 6)) {
    case 0:
    case 1:
        turn_rope(f, json_object_get(model, "rope"));
        break;
    case 2:
        json_object_set_new(model, "rms_eps", json_real(edge_of(f)));
        forge_say(f, " rms_eps");
        break;
    case 3:
        for (size_t i = 0; i < json_array_size(windows); i++)
            json_array_set_new(windows, i, json_integer((json_int_t)forge_below(f, 5)));
        forge_say(f, " windows");
        break;
    case 4:
        json_array_append_new(eos, json_integer(id));
        forge_say(f, " eos %lld", (long long)id);
        break;
    default:
        json_object_set_new(model, key, json_integer(id));
        forge_say(f, " %s=%lld", key, (long long)id);
    }
}

/* ---- the whole ---- */

static void deep(struct forged *f)
{
    static const char *const keys[] = {"source", "x", "files", "model"};
    json_t *value = json_array();
    for (uint64_t n = 10 + forge_below(f, 100); n > 0; n--) {
        json_t *around = json_array();
        json_array_append_new(around, value);
        value = around;
    }
    json_object_set_new(f->manifest, keys[forge_below(f, COUNT(keys))], value);
    forge_say(f, " deep");
}

void forge_structure(struct forged *f)
{
    json_t *ranks = json_object_get(f->manifest, "ranks");
    uint64_t a = forge_below(f, f->n_ranks), b = forge_below(f, f->n_ranks);
    struct forged_file file = f->ranks[a];
    switch (forge_below(f, 7)) {
    case 0: /* one rank's file under the name of another */
        f->ranks[a].bytes = f->ranks[b].bytes;
        f->ranks[a].n = f->ranks[b].n;
        f->ranks[b].bytes = file.bytes;
        f->ranks[b].n = file.n;
        forge_say(f, " ranks %d %d exchanged", (int)a, (int)b);
        break;
    case 1:
        json_array_remove(ranks, a);
        forge_say(f, " without rank %d", (int)a);
        break;
    case 2:
        json_array_append_new(ranks, json_deep_copy(json_array_get(ranks, a)));
        forge_say(f, " rank %d again", (int)a);
        break;
    case 3:
        free(f->ranks[a].bytes);
        f->ranks[a].bytes = NULL;
        forge_say(f, " file of rank %d missing", (int)a);
        break;
    case 4:
        json_object_set_new(f->manifest, "tp_size",
                            json_integer((json_int_t)forge_number(f, f->n_ranks)));
        forge_say(f, " tp_size");
        break;
    case 5:
        json_object_set_new(f->manifest, forge_chance(f, 50) ? "version" : "x", strange(f));
        forge_say(f, " version or x");
        break;
    default:
        deep(f);
    }
}
