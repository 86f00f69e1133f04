#include "differ.h"

#include "json.h"

void json_each_difference(const json_t *a, const json_t *b,
                          void (*fn)(void *arg, const char *key, const json_t *a, const json_t *b),
                          void *arg)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)a, key, value)
    {
        const json_t *other = json_object_get(b, key);
        if (!other || !json_equal(value, other))
            fn(arg, key, value, other);
    }
    json_object_foreach((json_t *)(uintptr_t)b, key, value) if (!json_object_get(a, key))
        fn(arg, key, NULL, value);
}

struct first_field {
    const char *key;
};

static void note_first(void *arg, const char *key, const json_t *a, const json_t *b)
{
    struct first_field *first = arg;
    (void)a;
    (void)b;
    if (!first->key)
        first->key = key;
}

bool model_equals(const struct model_config *a, const struct model_config *b, const char *file,
                  const char *what, struct tp_error *err)
{
    struct first_field first = {NULL};
    json_t *of_a = model_config_to_json(a, err), *of_b = of_a ? model_config_to_json(b, err) : NULL;
    bool ok = of_b != NULL;
    if (ok)
        json_each_difference(of_a, of_b, note_first, &first);
    if (first.key)
        ok = tp_fail(err, TP_E_VALUE_DIFFERS, "%s: model: %s is not that of %s", file, first.key,
                     what);
    json_decref(of_a);
    json_decref(of_b);
    return ok;
}
