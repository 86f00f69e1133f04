/* Dicts: entries in order of insertion, an open-addressed table over them from a few on. */
#include "jinja_inside.h"

#include <string.h>
#include <xxhash.h>

enum { FEW = 8 };

/* Names differ from rendering to rendering by the dict's address, so that no data can be made to
 * collide; nothing that can be seen depends on it. */
static uint64_t seed_of(const struct jinja_dict *dict)
{
    return (uint64_t)(uintptr_t)dict;
}

static bool hash_tuple(struct jinja *j, const struct jinja_sequence *s, uint64_t seed,
                       uint64_t *out)
{
    if (!jinja_spend(j, s->count) || !jinja_enter(j))
        return false;
    uint64_t hash = seed ^ s->count;
    bool ok = true;
    for (size_t i = 0; i < s->count && ok; i++)
        ok = jinja_hash(j, s->items[i], hash, &hash);
    jinja_leave(j);
    *out = hash;
    return ok;
}

bool jinja_hash(struct jinja *j, struct jinja_value v, uint64_t seed, uint64_t *out)
{
    int64_t i = v.kind;
    switch (v.kind) {
    case JINJA_LIST:
    case JINJA_VIEW:
    case JINJA_DICT:
        return false;
    case JINJA_TUPLE:
        return hash_tuple(j, v.sequence, seed, out);
    case JINJA_STRING:
        *out = XXH3_64bits_withSeed(v.string->bytes, v.string->n, seed);
        return true;
    case JINJA_FLOAT: /* 1.0 is the key 1 */
        if (v.real >= -0x1p63 && v.real < 0x1p63 && v.real == (double)(int64_t)v.real)
            i = (int64_t)v.real;
        else
            memcpy(&i, &v.real, sizeof i);
        break;
    case JINJA_BOOL:
    case JINJA_INT:
        i = jinja_int_of(v);
        break;
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        seed = ~seed;
        break;
    default: /* itself alone */
        i = v.kind == JINJA_OBJECT ? (int64_t)(uintptr_t)v.object : (int64_t)(uintptr_t)v.sequence;
    }
    *out = XXH3_64bits_withSeed(&i, sizeof i, seed);
    return true;
}

struct jinja_dict *jinja_make_dict(struct jinja *j)
{
    return jinja_alloc(j, sizeof(struct jinja_dict));
}

/* The slot of the key, or the free one where it would stand. */
static bool probe(struct jinja *j, const struct jinja_dict *dict, struct jinja_value key,
                  uint64_t hash, size_t *slot)
{
    size_t mask = dict->index_slots - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        *slot = i;
        if (dict->index[i] == 0)
            return true;
        bool same;
        if (!jinja_equal(j, dict->entries[dict->index[i] - 1].key, key, &same))
            return false;
        if (same)
            return true;
    }
}

/* *at: the entry; dict->count: none */
static bool find(struct jinja *j, const struct jinja_dict *dict, struct jinja_value key,
                 uint64_t hash, size_t *at)
{
    if (dict->index) {
        size_t slot;
        if (!probe(j, dict, key, hash, &slot))
            return false;
        *at = dict->index[slot] ? dict->index[slot] - 1 : dict->count;
        return true;
    }
    for (*at = 0; *at < dict->count; ++*at) {
        bool same;
        if (!jinja_equal(j, dict->entries[*at].key, key, &same))
            return false;
        if (same)
            return true;
    }
    return true;
}

static bool index_build(struct jinja *j, struct jinja_dict *dict)
{
    size_t slots = dict->cap * 2;
    uint32_t *index = jinja_array(j, slots, sizeof *index);
    if (!index || !jinja_spend(j, dict->count))
        return false;
    dict->index = index;
    dict->index_slots = slots;
    for (size_t i = 0; i < dict->count; i++) {
        uint64_t hash;
        size_t slot;
        if (!jinja_hash(j, dict->entries[i].key, seed_of(dict), &hash))
            return false;
        for (slot = hash & (slots - 1); index[slot]; slot = (slot + 1) & (slots - 1))
            ;
        index[slot] = (uint32_t)i + 1;
    }
    return true;
}

static bool grow(struct jinja *j, struct jinja_dict *dict)
{
    if (dict->count < dict->cap)
        return true;
    size_t cap = dict->cap ? dict->cap * 2 : FEW;
    struct jinja_entry *entries = jinja_array(j, cap, sizeof *entries);
    if (!entries)
        return false;
    if (dict->count)
        memcpy(entries, dict->entries, dict->count * sizeof *entries);
    dict->entries = entries;
    dict->cap = cap;
    return cap <= FEW || index_build(j, dict);
}

bool jinja_dict_put(struct jinja *j, struct jinja_dict *dict, struct jinja_value key,
                    struct jinja_value value)
{
    uint64_t hash;
    if (!jinja_spend_bytes(j, key.kind == JINJA_STRING ? key.string->n : 0))
        return false;
    if (!jinja_hash(j, key, seed_of(dict), &hash))
        return jinja_raise(j, "TypeError", "unhashable type: '%s'", jinja_type_name(key));
    size_t at;
    if (!find(j, dict, key, hash, &at))
        return false;
    if (at < dict->count) {
        dict->entries[at].value = value;
        return true;
    }
    if (!grow(j, dict))
        return false;
    dict->entries[dict->count++] = (struct jinja_entry){key, value};
    if (!dict->index)
        return true;
    size_t slot;
    if (!probe(j, dict, key, hash, &slot))
        return false;
    dict->index[slot] = (uint32_t)dict->count;
    return true;
}

const struct jinja_value *jinja_dict_get(struct jinja *j, const struct jinja_dict *dict,
                                         struct jinja_value key)
{
    uint64_t hash;
    size_t at;
    if (!jinja_spend_bytes(j, key.kind == JINJA_STRING ? key.string->n : 0) ||
        !jinja_hash(j, key, seed_of(dict), &hash) || !find(j, dict, key, hash, &at))
        return NULL;
    return at < dict->count ? &dict->entries[at].value : NULL;
}

static bool key_is(const struct jinja_entry *entry, const char *name, size_t n)
{
    return entry->key.kind == JINJA_STRING && entry->key.string->n == n &&
           memcmp(entry->key.string->bytes, name, n) == 0;
}

const struct jinja_value *jinja_dict_get_name(const struct jinja_dict *dict, const char *name,
                                              size_t n)
{
    if (!dict->index) {
        for (size_t i = 0; i < dict->count; i++)
            if (key_is(&dict->entries[i], name, n))
                return &dict->entries[i].value;
        return NULL;
    }
    size_t mask = dict->index_slots - 1;
    for (size_t i = XXH3_64bits_withSeed(name, n, seed_of(dict)) & mask; dict->index[i];
         i = (i + 1) & mask) {
        const struct jinja_entry *entry = &dict->entries[dict->index[i] - 1];
        if (key_is(entry, name, n))
            return &entry->value;
    }
    return NULL;
}
