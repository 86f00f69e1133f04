/* tprun chat: a conversation, on a terminal or through a pipe. Answers go to standard output, all
 * else to standard error. */
#include "cmd.h"

#include "chat_input.h"
#include "chat_session.h"
#include "clock.h"
#include "guess.h"
#include "host.h"
#include "interrupt.h"
#include "shown.h"
#include "terminal.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { CONTEXT_DEFAULT = 4096, FILE_BYTES_MAX = 64 << 20 };

static char output_buffer[1 << 16]; /* stdout's: it would allocate one */

static void on_interrupt(int number)
{
    (void)number;
    interrupt_note(true);
}

struct talk {
    struct run run;
    struct batch batch;
    struct chat_session session;
    struct chat_input input;
    bool stats, ended;
    uint32_t turns;
    uint64_t positions;
    struct tp_error refused; /* the first turn that was, without a terminal */
};

static void show(const char *text, size_t n)
{
    if (n)
        fwrite(text, 1, n, stdout);
    else
        fflush(stdout);
}

/* ---- commands ---- */

static const char help[] =
    "  /help         this text; /? too\n"
    "  /clear        begin anew, with the same system message; /reset too\n"
    "  /system TEXT  another system message; without TEXT none\n"
    "  /save FILE    the conversation, a JSON array of messages\n"
    "  /load FILE    go on with a saved one\n"
    "  /stats        timing and memory after each answer, on or off\n"
    "  /quit         end, as Ctrl-D does; /exit too\n"
    "A line that ends in \\ goes on on the next; \"\"\" begins and ends a message of several "
    "lines.\n"
    "A message that begins with / is written with //. Ctrl-C stops an answer. Tab completes\n"
    "commands and their files. What is typed during an answer is for the next line.\n";

/* What a command has done: a line of its own, without the program's name, as help is. */
__attribute__((format(printf, 1, 2))) static void confirm(const char *fmt, ...)
{
    char line[IO_PATH_MAX + 32];
    va_list args;
    if (tp_notes_hushed())
        return;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    shown_put(stderr, line);
    fputc('\n', stderr);
}

static bool do_help(struct talk *talk, const char *rest, struct tp_error *err)
{
    (void)talk, (void)rest, (void)err;
    fputs(help, stderr);
    return true;
}

static bool do_clear(struct talk *talk, const char *rest, struct tp_error *err)
{
    (void)rest, (void)err;
    size_t turns = chat_session_forget(&talk->session);
    confirm("forgotten: %zu turn%s", turns, turns == 1 ? "" : "s");
    return true;
}

static bool do_system(struct talk *talk, const char *rest, struct tp_error *err)
{
    if (!chat_session_set_system(&talk->session, rest, strlen(rest), err))
        return false;
    confirm("system message %s", *rest ? "set" : "removed");
    return true;
}

static bool read_path(const char *command, const char *rest, char path[IO_PATH_MAX],
                      struct tp_error *err)
{
    return *rest ? chat_path(rest, path, err)
                 : tp_fail(err, TP_E_USAGE, "/%s: a file expected", command);
}

static bool do_save(struct talk *talk, const char *rest, struct tp_error *err)
{
    char path[IO_PATH_MAX];
    size_t n;
    if (!read_path("save", rest, path, err))
        return false;
    char *text = json_text(talk->session.messages, &n, err);
    if (!text)
        return false;
    text[n++] = '\n'; /* in place of the NUL */
    struct output_file file;
    bool ok = output_file_open(&file, path, err) && run_check_output(&talk->run, &file, err) &&
              output_file_write(&file, text, n, err);
    mem_free(text);
    if (!output_file_close(&file, ok, err))
        return false;
    confirm("saved %s", path);
    return true;
}

static bool do_load(struct talk *talk, const char *rest, struct tp_error *err)
{
    char path[IO_PATH_MAX], *text;
    size_t n;
    if (!read_path("load", rest, path, err) || !io_read_file(path, FILE_BYTES_MAX, &text, &n, err))
        return false;
    json_t *messages = json_parse(path, text, n, TP_E_PROMPT, err);
    bool ok = messages && chat_session_set_messages(&talk->session, messages, path, err);
    json_decref(messages);
    mem_free(text);
    if (ok)
        confirm("loaded %s", path);
    return ok;
}

static bool do_stats(struct talk *talk, const char *rest, struct tp_error *err)
{
    (void)rest, (void)err;
    talk->stats = !talk->stats;
    confirm("stats %s", talk->stats ? "on" : "off");
    return true;
}

static bool do_quit(struct talk *talk, const char *rest, struct tp_error *err)
{
    (void)rest, (void)err;
    talk->ended = true;
    return true;
}

static const struct chat_command commands[] = {
    {"help", CHAT_TAKES_NOTHING, do_help},
    {"?", CHAT_TAKES_NOTHING, do_help},
    {"clear", CHAT_TAKES_NOTHING, do_clear},
    {"reset", CHAT_TAKES_NOTHING, do_clear},
    {"system", CHAT_TAKES_TEXT, do_system},
    {"save", CHAT_TAKES_FILE, do_save},
    {"load", CHAT_TAKES_FILE, do_load},
    {"stats", CHAT_TAKES_NOTHING, do_stats},
    {"quit", CHAT_TAKES_NOTHING, do_quit},
    {"exit", CHAT_TAKES_NOTHING, do_quit},
    {0},
};

/* "/name rest"; line ends in a NUL. Blanks at its end, of Tab or a carriage return, do not
 * count. */
static bool run_command(struct talk *talk, char *line, struct tp_error *err)
{
    size_t length = strlen(line), n;
    char name[TP_NAME_BUF];
    while (strchr(" \t\r", line[length - 1]))
        line[--length] = '\0';
    n = strcspn(line + 1, " ");
    const char *rest = line + 1 + n;
    rest += strspn(rest, " ");
    struct guess guess = guess_of(line + 1, n);
    for (const struct chat_command *c = commands; c->name; c++) {
        if (strlen(c->name) == n && memcmp(c->name, line + 1, n) == 0)
            return c->run(talk, rest, err);
        guess_offer(&guess, c->name);
    }
    tp_name_cut(name, line, n + 1);
    return guess.word ? tp_fail(err, TP_E_USAGE, "unknown command \"%s\", did you mean /%s?", name,
                                guess.word)
                      : tp_fail(err, TP_E_USAGE, "unknown command \"%s\", /help lists them", name);
}

/* ---- turns ---- */

static void print_stats(const struct talk *talk)
{
    const struct chat_turn *t = &talk->session.last;
    uint32_t fresh = t->n_prompt - t->n_reused, steps = t->n_new ? t->n_new - 1 : 0;
    tp_message(
        "tprun", "stats",
        "turn %u: %u tokens, %u reused, %u prefilled in %.3f s, %.1f tok/s; answer %u tokens "
        "(%s), %.1f tok/s; context %u of %llu; peak memory %llu",
        talk->turns, t->n_prompt, t->n_reused, fresh, t->prefill_seconds,
        clock_rate(fresh, t->prefill_seconds), t->n_new, batch_finish_name(t->finish),
        clock_rate(steps, t->decode_seconds), t->n_prompt + t->n_new,
        (unsigned long long)talk->run.context, (unsigned long long)host_memory_peak());
}

/* Errors that leave the conversation usable. */
static bool may_go_on(enum tp_code code)
{
    enum tp_exit status = tp_code_exit(code);
    return code == TP_E_LIMIT || status == TP_EXIT_INPUT || status == TP_EXIT_USAGE ||
           code == TP_E_IO;
}

static bool refuse(struct talk *talk, struct tp_error *why, struct tp_error *err)
{
    if (!may_go_on(why->code) && !(why->code == TP_E_INTERRUPTED && talk->input.terminal))
        return tp_fail(err, why->code, "%s", why->text);
    tp_message("tprun", "warning", "%s", why->text);
    if (!talk->input.terminal && talk->refused.code == TP_OK)
        talk->refused = *why;
    return true;
}

static bool say(struct talk *talk, struct tp_error *err)
{
    struct tp_error why = {0};
    struct tp_text *message = &talk->input.message;
    size_t slash = message->n >= 2 && memcmp(message->data, "//", 2) == 0;
    terminal_hush(talk->input.terminal);
    bool ok = chat_session_say(&talk->session, &talk->batch, message->data + slash,
                               message->n - slash, &why);
    terminal_unhush();
    if (ok || may_go_on(why.code) || talk->input.terminal) /* else it is no answer that ends */
        putchar('\n');
    if (fflush(stdout) != 0)
        return tp_fail_errno(err, "standard output: cannot be written");
    if (!ok) {
        ok = refuse(talk, &why, err);
        if (ok && why.code == TP_E_LIMIT && talk->session.ids.count >= talk->run.context)
            tp_note("the message is taken back; /clear begins anew");
        return ok;
    }
    const struct chat_turn *t = &talk->session.last;
    talk->turns++;
    if (interrupt_pending() && !talk->input.terminal)
        return tp_fail(err, TP_E_INTERRUPTED, "interrupted");
    if (t->finish == BATCH_CONTEXT)
        tp_note("the context of %llu token%s is full; /clear begins anew",
                (unsigned long long)talk->run.context, talk->run.context == 1 ? "" : "s");
    else if (t->finish == BATCH_LENGTH && talk->input.terminal)
        tp_note("the answer ends here: -n allows %u token%s", t->n_new, t->n_new == 1 ? "" : "s");
    if (talk->stats)
        print_stats(talk);
    return true;
}

static bool is_blank(const struct tp_text *text)
{
    size_t n = 0;
    while (n < text->n && memchr(" \t\r\n", text->data[n], 4))
        n++;
    return n == text->n;
}

static bool take(struct talk *talk, bool command, struct tp_error *err)
{
    struct tp_text *message = &talk->input.message;
    struct tp_error why = {0};
    if (is_blank(message))
        return true;
    interrupt_note(false);
    if (!command || message->data[0] != '/' || (message->n > 1 && message->data[1] == '/'))
        return say(talk, err);
    if (!tp_text_add(message, "", 1, err))
        return false;
    return run_command(talk, message->data, &why) || refuse(talk, &why, err);
}

static bool drive(struct talk *talk, struct tp_error *err)
{
    if (talk->input.terminal)
        tp_note("context %llu token%s; /help lists commands", (unsigned long long)talk->run.context,
                talk->run.context == 1 ? "" : "s");
    while (!talk->ended) {
        bool command;
        switch (chat_input_read(&talk->input, &command, err)) {
        case CHAT_READ_MESSAGE:
            if (!take(talk, command, err))
                return false;
            break;
        case CHAT_READ_CANCELLED:
            break;
        case CHAT_READ_END:
            if (talk->input.terminal)
                putchar('\n');
            talk->ended = true;
            break;
        case CHAT_READ_FAILED:
            return false;
        }
    }
    return talk->refused.code == TP_OK ||
           tp_fail(err, talk->refused.code, "a message was refused: %s", talk->refused.text);
}

/* ---- setting up ---- */

static bool open_talk(struct talk *talk, const struct run_options *options, struct report *report,
                      struct tp_error *err)
{
    struct run *run = &talk->run;
    if (!run_open(run, options, report, err))
        return false;
    uint64_t most = run->bundle.model.max_positions, rows;
    run->context = most < CONTEXT_DEFAULT ? most : CONTEXT_DEFAULT;
    if (options->context)
        run->context = options->context;
    if (run->context > most)
        tp_note("%llu positions, the model was made for %llu", (unsigned long long)run->context,
                (unsigned long long)most);
    if (run->context >= UINT32_MAX)
        return tp_fail(err, TP_E_USAGE, "--context %llu: at most %u expected",
                       (unsigned long long)run->context, UINT32_MAX - 1);
    talk->positions = run->context;
    run->positions = &talk->positions;
    run->prompts = (struct prompts){.count = 1};
    run_set_chunk(run);
    rows = run->chunk < run->context ? run->chunk : run->context;
    const struct chat_session_setup setup = {
        .bundle = &run->bundle,
        .tokenizer = &run->tokenizer,
        .chat = &run->chat,
        .context = run->context,
        .n = options->prompts.n,
        .no_reuse = options->no_reuse,
        .choice = options->choice,
        .stops = options->stops,
        .n_stops = (size_t)options->n_stops,
        .system = options->prompts.system,
        .interrupted = interrupt_flag(),
        .show = show,
    };
    if (!chat_session_open(&talk->session, &setup, err))
        return false;
    run_note_choice(&talk->session.choice);
    return chat_input_open(&talk->input, options->history, commands, interrupt_flag(), err) &&
           run_open_engine(run, true, rows, err) &&
           batch_open(&talk->batch, &run->engine, run->chunk, err);
}

bool cmd_chat(const struct run_options *options, struct report *report, struct tp_error *err)
{
    struct talk *talk = mem_alloc(sizeof *talk, err);
    if (!talk)
        return false;
    setvbuf(stdout, output_buffer, _IOFBF, sizeof output_buffer);
    talk->stats = options->stats;
    bool ok = open_talk(talk, options, report, err);
    if (ok) {
        sigaction(SIGINT, &(struct sigaction){.sa_handler = on_interrupt}, NULL);
        ok = drive(talk, err);
    }
    if (ok)
        run_report(&talk->run, &talk->batch);
    chat_input_close(&talk->input);
    chat_session_close(&talk->session);
    batch_close(&talk->batch);
    talk->run.positions = NULL; /* ours */
    talk->run.prompts = (struct prompts){0};
    run_close(&talk->run);
    mem_free(talk);
    return ok;
}
