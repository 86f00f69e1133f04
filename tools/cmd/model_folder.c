#include "model_folder.h"

#include "bundle.h"
#include "chat_folder.h"
#include "chat_source.h"
#include "generation_config.h"
#include "hf_names.h"
#include "link.h"
#include "model_path.h"
#include "text.h"
#include "tokenizer_compile.h"

enum { FILE_BYTES_MAX = 256 << 20 };

/* Those present travel; the first must be. */
static const char *const travelling[] = {
    "config.json",           "generation_config.json",  "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
    "chat_template.json",    "added_tokens.json",
};

static const char *const others[] = {"tokenizer.model", TEMPLATES_FOLDER};

static bool list_inputs(struct model_folder *f, struct tp_error *err)
{
    const struct checkpoint *ck = &f->checkpoint;
    f->inputs = mem_arena_alloc(&f->arena, ck->file_count * sizeof *f->inputs, err);
    if (!f->inputs)
        return false;
    /* what a changed file cannot keep; not the inode or ctime, which a move changes */
    struct identity {
        uint64_t size, mtime_ns;
        struct hash128 header;
    } *ids = mem_arena_alloc(&f->arena, ck->file_count * sizeof *ids, err);
    if (!ids)
        return false;
    for (uint32_t i = 0; i < ck->file_count; i++) {
        const struct safetensors *st = &ck->files[i];
        ids[i] = (struct identity){st->who.size, st->who.mtime_ns, st->header_hash};
        f->inputs[i] = (struct named_bytes){st->name, &ids[i], sizeof ids[i]};
    }
    return true;
}

struct template_links {
    const char *dir, *folder, *advice;
    bool ok;
    struct tp_error *err;
};

static void check_template_link(void *arg, const char *name)
{
    struct template_links *c = arg;
    char path[IO_PATH_MAX];
    if (tp_ends_in(name, CHAT_FOLDER_SUFFIX)) /* others do not travel */
        c->ok = c->ok && io_join(path, c->folder, name, c->err) &&
                link_check(c->dir, path, c->advice, c->err);
}

bool model_folder_check_links(const char *dir, bool follow, struct tp_error *err)
{
    char path[IO_PATH_MAX];
    const char *advice = follow ? NULL : "; --follow-links takes it";
    struct template_links check = {dir, TEMPLATES_FOLDER, advice, true, err};
    for (size_t i = 0; i < sizeof travelling / sizeof *travelling; i++)
        if (!link_check(dir, travelling[i], advice, err))
            return false;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!link_check(dir, others[i], advice, err))
            return false;
    return io_join(path, dir, TEMPLATES_FOLDER, err) &&
           (!io_is_dir(path) ||
            (folder_list_path(path, check_template_link, &check, err) && check.ok));
}

bool model_folder_reads(const char *name)
{
    bool known = tp_ends_in(name, ".safetensors") || tp_ends_in(name, ".safetensors.index.json");
    for (size_t i = 0; i < sizeof travelling / sizeof *travelling; i++)
        known |= strcmp(name, travelling[i]) == 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        known |= strcmp(name, others[i]) == 0;
    return known;
}

/* Is the tensor of one of the model's layers, rather than of what else a file may have? */
static bool is_of_layers(const struct st_tensor *t, const char *prefix, uint64_t n_layers)
{
    char layers[64];
    size_t n = (size_t)snprintf(layers, sizeof layers, "%slayers.", prefix);
    uint64_t layer = 0, i = n;
    if (t->name_len <= n || memcmp(t->name, layers, n) != 0)
        return false;
    for (; i < t->name_len && t->name[i] >= '0' && t->name[i] <= '9' && layer < n_layers; i++)
        layer = 10 * layer + (uint64_t)(t->name[i] - '0');
    return i > n && layer < n_layers;
}

static bool contains(const struct st_tensor *t, const char *text)
{
    return memmem(t->name, t->name_len, text, strlen(text)) != NULL;
}

/* A part of an adapter that nobody has merged into the layers. */
static bool is_of_adapter(const struct st_tensor *t, const char *prefix, uint64_t n_layers)
{
    return (contains(t, ".lora_A.") || contains(t, ".lora_B.")) &&
           is_of_layers(t, prefix, n_layers);
}

static bool say_unused(struct model_folder *f, struct tp_error *err)
{
    const struct checkpoint *ck = &f->checkpoint;
    const char *prefix = hf_names_prefix(ck);
    const struct st_tensor *first = NULL, *adapter = NULL;
    uint32_t n = 0;
    char name[TP_NAME_BUF];
    for (uint32_t i = 0; i < ck->count; i++) {
        const struct st_tensor *t = ck->tensors[i].tensor;
        if (ck->tensors[i].used)
            continue;
        if (n++ == 0)
            first = t;
        if (!adapter && is_of_adapter(t, prefix, f->config->model.n_layers))
            adapter = t;
    }
    if (first)
        finding_note(&f->findings,
                     "%s: %u tensor%s not used, \"%s\" the first; the manifest lists %s", ck->dir,
                     n, n == 1 ? " is" : "s are", tp_name_cut(name, first->name, first->name_len),
                     n == 1 ? "it" : "them");
    return !adapter ||
           finding_warn(&f->findings, TP_E_ST_TENSOR, err,
                        "%s: tensor \"%s\" is of an adapter that is not merged: it is left out",
                        ck->dir, tp_name_cut(name, adapter->name, adapter->name_len));
}

/* What a quantized matrix has beside its weight or in its place: more than weight and bias, or no
 * floats. NULL: no matrix of the model is quantized. What the index leaves out does not count. */
static const struct st_tensor *find_quantized(const struct model_folder *f)
{
    const char *prefix = hf_names_prefix(&f->checkpoint);
    for (uint32_t i = 0; i < f->checkpoint.count; i++) {
        const struct st_tensor *t = f->checkpoint.tensors[i].tensor;
        const char *end = t->name + t->name_len, *dot = memrchr(t->name, '.', t->name_len);
        if (!f->checkpoint.tensors[i].indexed || !dot)
            continue;
        if ((contains(t, "embed_tokens.") || contains(t, "lm_head.")) && contains(t, "_scale"))
            return t;
        if (!contains(t, "_proj.") || !is_of_layers(t, prefix, f->config->model.n_layers))
            continue;
        size_t n = (size_t)(end - dot);
        bool plain =
            (n == 7 && memcmp(dot, ".weight", n) == 0) || (n == 5 && memcmp(dot, ".bias", n) == 0);
        if (!plain ||
            (t->dtype != ST_F32 && t->dtype != ST_F16 && t->dtype != ST_BF16 && t->dtype != ST_F64))
            return t;
    }
    return NULL;
}

/* Both config.json and the tensors say that a checkpoint is quantized, or neither. Tensors that are
 * plain all the same are converted. */
static bool check_quantization(const struct model_folder *f, struct tp_error *err)
{
    const char *scheme = f->config->quantization;
    const struct st_tensor *t = find_quantized(f);
    char name[TP_NAME_BUF];
    if (*scheme && t)
        return tp_fail(err, TP_E_UNSUPPORTED,
                       "%s/config.json: quantized checkpoint (%s): import is not supported yet",
                       f->dir, scheme);
    if (t)
        return tp_fail(
            err, TP_E_UNSUPPORTED,
            "%s: tensor \"%s\" (%s) is of a quantized checkpoint, but config.json names no "
            "quantization",
            f->dir, tp_name_cut(name, t->name, t->name_len), st_dtype_name(t->dtype));
    if (f->config->quantization_at_work)
        return tp_fail(err, TP_E_UNSUPPORTED,
                       "%s/config.json: %s of its quantization (%s) is not supported, though the "
                       "tensors are plain",
                       f->dir, f->config->quantization_at_work, scheme);
    if (*scheme)
        finding_note(&f->findings,
                     "%s/config.json: names a quantization (%s), but the tensors are plain: they "
                     "are converted as they are",
                     f->dir, scheme);
    return true;
}

/* Open the weights. The whole file beside an index is taken if nothing is missing in it. */
static bool open_weights(struct model_folder *f, struct source_survey *survey, struct tp_error *err)
{
    const struct model_config *model = &f->config->model;
    struct checkpoint *ck = &f->checkpoint;
    if (!checkpoint_open(ck, f->dir, &f->findings, err) ||
        !source_checkpoint_survey(ck, model, survey, err))
        return false;
    if (ck->index_beside && survey->complete)
        finding_note(&f->findings, "%s: %s has all that is needed: the index beside it is not read",
                     f->dir, ck->source);
    if (!ck->index_beside || survey->complete)
        return true;
    finding_note(&f->findings, "%s: %s lacks what is needed: the files of the index are taken",
                 f->dir, ck->source);
    return checkpoint_turn_to_index(ck, &f->findings, err) &&
           source_checkpoint_survey(ck, model, survey, err);
}

static void add_file(struct model_folder *f, const char *name, const void *data, uint64_t n)
{
    tp_assert(f->n_files < MODEL_FOLDER_FILES_MAX);
    f->files[f->n_files++] = (struct named_bytes){name, data, n};
}

static bool take_layers(struct model_folder *f, uint64_t n, struct tp_error *err)
{
    f->layers_of = f->config->model.n_layers;
    return !n || model_config_take_layers(&f->config->model, n, f->dir, err);
}

/* transformers would load it onto the model. */
static bool warn_of_adapter(struct model_folder *f, struct tp_error *err)
{
    char path[IO_PATH_MAX];
    return io_join(path, f->dir, "adapter_config.json", err) &&
           (!io_exists(path) ||
            finding_warn(&f->findings, TP_E_CF_FILE, err,
                         "%s: the adapter is left out: it counts if peft's merge_and_unload has "
                         "merged it into the model",
                         path));
}

bool model_folder_open(struct model_folder *folder, const char *dir, const struct options *options,
                       const struct recipe *recipe, struct tp_error *err)
{
    struct hf_options keys = {options->ignore_keys, (size_t)options->n_ignore_keys, false,
                              &folder->findings};
    struct source_survey survey;
    *folder = (struct model_folder){.dir = dir,
                                    .findings = {.strict = options->strict, .files_said = true}};
    if (!model_path_check(dir, false, err))
        return false;
    if (!model_folder_check_links(dir, options->follow_links, err))
        return false;
    folder->config = mem_alloc(sizeof *folder->config, err);
    char *text;
    size_t n;
    bool ok = folder->config && hf_config_read(dir, &keys, folder->config, &text, &n, err);
    if (ok) /* what was read for the model is what travels */
        add_file(folder, travelling[0], text, n);
    ok = ok && take_layers(folder, options->layers, err) && warn_of_adapter(folder, err) &&
         open_weights(folder, &survey, err) && check_quantization(folder, err);
    if (ok) {
        const struct model_config *model = &folder->config->model;
        enum dtype dtype = options->dtype ? options->dtype
                           : model->dtype ? model->dtype
                                          : survey.widest;
        folder->recipe = recipe ? *recipe : recipe_of(dtype, options->quant);
        ok = source_checkpoint_open(&folder->source, &folder->checkpoint, model, folder->recipe,
                                    &folder->findings, err) &&
             list_inputs(folder, err) &&
             checkpoint_check_index(&folder->checkpoint, &folder->findings, err);
        if (folder->layers_of > model->n_layers)
            folder->source.layers_of = folder->layers_of;
    }
    ok = ok && say_unused(folder, err);
    if (!ok)
        model_folder_close(folder);
    return ok;
}

static const char ids_only[] = "the bundle takes token ids only";
static const char tokenizer_json[] = "tokenizer.json";

const struct named_bytes *model_folder_file(const struct model_folder *f, const char *name)
{
    for (uint32_t i = 0; i < f->n_files; i++)
        if (strcmp(f->files[i].name, name) == 0)
            return &f->files[i];
    return NULL;
}

/* One of a kind that is not supported, or that is malformed, is left out: ids still work. */
static bool compile_tokenizer(struct model_folder *f, const struct named_bytes *json,
                              const struct tokenizer_texts *texts, struct tp_error *err)
{
    unsigned char *data;
    uint64_t n;
    struct tp_error why = {0};
    if (tokenizer_compile_read(f->dir, json->data, json->size, &f->config->model, texts,
                               &f->findings, &data, &n, &why)) {
        add_file(f, BUNDLE_TOKENIZER, data, n);
        return true;
    }
    if (why.code == TP_E_TK_UNSUPPORTED) {
        finding_note(&f->findings, "%s: %s", why.text, ids_only);
        return true;
    }
    if (why.code ==
        TP_E_LIMIT) /* of ours, for a tokenizer: it costs no more than one that is bad */
        why.code = TP_E_TK_INVALID;
    if (f->findings.strict)
        return tp_fail(err, why.code, "%s", why.text);
    return finding_forgive(&f->findings, &why, ids_only, err);
}

static bool note_absent(const struct model_folder *f, struct tp_error *err)
{
    char path[IO_PATH_MAX];
    if (!io_join(path, f->dir, "tokenizer.model", err))
        return false;
    finding_note(&f->findings, "%s: %s: %s", f->dir,
                 io_exists(path) ? "tokenizer.model without a tokenizer.json" : "no tokenizer.json",
                 ids_only);
    return true;
}

/* present: the folder has a tokenizer.json, if only one that was left out. */
static bool add_tokenizer(struct model_folder *f, bool present, struct tp_error *err)
{
    const struct named_bytes *json = model_folder_file(f, tokenizer_json);
    struct chat_source chat;
    size_t n;
    if (!chat_source_read(&chat, f->dir, &f->findings, err))
        return false;
    bool ok = true;
    if (json_object_size(chat.folder)) {
        char *text = json_text(chat.folder, &n, err);
        ok = text != NULL;
        if (ok)
            add_file(f, BUNDLE_TEMPLATES, text, n);
    }
    struct tokenizer_texts texts = chat_source_texts(&chat);
    ok = ok && (json      ? compile_tokenizer(f, json, &texts, err)
                : present ? true
                          : note_absent(f, err));
    chat_source_free(&chat);
    return ok;
}

/* One that is too large for a bundle stays behind. */
static bool read_file(struct model_folder *f, const char *name, bool *present, struct tp_error *err)
{
    struct tp_error why = {0};
    struct generation_config generation;
    char path[IO_PATH_MAX], *data;
    size_t n;
    *present = false;
    if (!io_join(path, f->dir, name, err))
        return false;
    if (!io_exists(path))
        return true;
    *present = true;
    if (!io_read_file(path, FILE_BYTES_MAX, &data, &n, &why)) {
        if (why.code == TP_E_LIMIT)
            why.code = TP_E_CF_FILE;
        bool ids = strcmp(name, tokenizer_json) == 0;
        return finding_forgive(&f->findings, &why, ids ? ids_only : "it is left out", err);
    }
    add_file(f, name, data, n);
    return strcmp(name, "generation_config.json") != 0 ||
           generation_config_read(path, data, n, f->config->model.vocab, &f->findings, &generation,
                                  err);
}

bool model_folder_read_files(struct model_folder *folder, struct tp_error *err)
{
    bool tokenizer = false, present;
    for (size_t i = 1; i < sizeof travelling / sizeof *travelling; i++) {
        if (!read_file(folder, travelling[i], &present, err))
            return false;
        tokenizer |= present && strcmp(travelling[i], tokenizer_json) == 0;
    }
    return add_tokenizer(folder, tokenizer, err);
}

void model_folder_close(struct model_folder *folder)
{
    for (uint32_t i = 0; i < folder->n_files; i++)
        mem_free((void *)(uintptr_t)folder->files[i].data);
    source_checkpoint_close(&folder->source);
    checkpoint_close(&folder->checkpoint);
    mem_free(folder->config);
    mem_arena_free(&folder->arena);
    *folder = (struct model_folder){0};
}
