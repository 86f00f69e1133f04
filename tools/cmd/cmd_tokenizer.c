/* tpshard tokenizer: the compiled tokenizer of a folder, alone. */
#include "commands.h"

#include "chat_source.h"
#include "hf_config.h"
#include "mem.h"
#include "model_folder.h"
#include "model_path.h"
#include "output_file.h"
#include "shown.h"
#include "tokenizer_compile.h"
#include <stdio.h>

static const char help[] =
    "usage: tpshard tokenizer MODEL_DIR -o FILE [-q]\n"
    "\n"
    "Compile tokenizer.json, as convert does, to one file; no weights are needed. Where the "
    "folder has a\n"
    "config.json, ids are checked against the model's. FILE is replaced in one step.\n"
    "\n"
    "  -o, --output FILE      file to make; - is standard output\n"
    "      --strict           a warning about the folder is an error, exit 3\n"
    "      --follow-links     take files that are links out of MODEL_DIR, too\n"
    "      --ignore-key NAME  a key of config.json that is not to be refused; may be repeated\n"
    "  -q, --quiet            no notes, no report; warnings are said\n";

static bool compile_dir(const struct options *o, const struct model_config *model,
                        unsigned char **data, uint64_t *n, struct tp_error *err)
{
    struct chat_source chat;
    struct findings findings = {.strict = o->strict};
    if (!chat_source_read(&chat, o->args[0], &findings, err))
        return false;
    struct tokenizer_texts texts = chat_source_texts(&chat);
    bool ok = tokenizer_compile_dir(o->args[0], model, &texts, &findings, data, n, err);
    chat_source_free(&chat);
    return ok;
}

/* A folder of a tokenizer alone is enough. */
static bool has_tokenizer(const char *dir)
{
    char path[IO_PATH_MAX];
    return (io_join(path, dir, "tokenizer.json", NULL) && io_exists(path)) ||
           (io_join(path, dir, "tokenizer.model", NULL) && io_exists(path));
}

/* With the model's config.json, if there is one that can be read. */
static bool compile(const struct options *o, struct hf_config *config, unsigned char **data,
                    uint64_t *n, struct tp_error *err)
{
    struct hf_options keys = {o->ignore_keys, (size_t)o->n_ignore_keys, false, NULL};
    char path[IO_PATH_MAX];
    if (!has_tokenizer(o->args[0]) && !model_path_check(o->args[0], false, err))
        return false;
    if (!model_folder_check_links(o->args[0], o->follow_links, err) ||
        !io_join(path, o->args[0], "config.json", err))
        return false;
    bool with_model = io_exists(path);
    if (with_model && !hf_config_read(o->args[0], &keys, config, NULL, NULL, err)) {
        /* a model that cannot be converted may have a tokenizer that can */
        if (tp_code_exit(err->code) != TP_EXIT_UNSUPPORTED)
            return false;
        tp_note("ids are not checked against the model's: %s", err->text);
        *err = (struct tp_error){0};
        with_model = false;
    }
    return compile_dir(o, with_model ? &config->model : NULL, data, n, err);
}

struct input_check {
    const struct output_file *file;
    const char *dir;
    bool all; /* of its files are the model's */
    struct tp_error *err;
    bool ok;
};

static void check_input(void *arg, const char *name)
{
    struct input_check *c = arg;
    char path[IO_PATH_MAX];
    c->ok =
        c->ok && ((!c->all && !model_folder_reads(name)) || !io_join(path, c->dir, name, NULL) ||
                  output_file_spares(c->file, path, c->err));
}

static bool check_folder(const struct output_file *file, const char *dir, bool all,
                         struct tp_error *err)
{
    struct input_check check = {file, dir, all, err, true};
    return !io_is_dir(dir) || (folder_list_path(dir, check_input, &check, err) && check.ok);
}

/* The output is no file of the model's. */
static bool check_output(const struct output_file *file, const char *dir, struct tp_error *err)
{
    char templates[IO_PATH_MAX];
    return check_folder(file, dir, false, err) && io_join(templates, dir, TEMPLATES_FOLDER, err) &&
           check_folder(file, templates, true, err);
}

static bool run_tokenizer(const struct options *o, struct tp_error *err)
{
    struct output_file file;
    unsigned char *data = NULL;
    uint64_t n;
    if (!o->output)
        return tp_fail(err, TP_E_USAGE, "-o is missing: the file to make");
    if (!output_file_open(&file, o->output, err) || !output_file_no_terminal(&file, o->output, err))
        return output_file_close(&file, false, err);
    struct hf_config *config = mem_alloc(sizeof *config, err);
    bool ok = config && check_output(&file, o->args[0], err) &&
              compile(o, config, &data, &n, err) && output_file_write(&file, data, n, err);
    ok = output_file_close(&file, ok, err);
    mem_free(data);
    mem_free(config);
    if (ok && !o->quiet) {
        fprintf(stderr, "%s: ", TPSHARD);
        shown_put(stderr, o->output);
        fprintf(stderr, ": %llu bytes\n", (unsigned long long)n);
    }
    return ok;
}

const struct command command_tokenizer = {
    .name = "tokenizer",
    .id = COMMAND_TOKENIZER,
    .n_args = 1,
    .args = "one MODEL_DIR",
    .summary = "a folder's tokenizer, compiled, alone",
    .help = help,
    .run = run_tokenizer,
};
