/* forge_random DIR SEED FIRST COUNT BUNDLE...: bundles forged at random from those given, hashes
 * made right, and every reader of both programs on each. A reader may refuse it with a code of the
 * contract (0 3 4 5 6 7 8): a signal, a sanitizer's word, an assertion or 10 seconds are findings,
 * and so is a bundle that verify accepts and another reader does not.
 *
 * A case is its seed and number; it runs in a process of its own. DIR holds the forgery, which
 * stays in DIR/case-NUMBER where something was found. Prints what readers said of what was changed;
 * exit status 1 where there are findings.
 */
#include "cmd.h"
#include "commands.h"
#include "forge_bundle.h"
#include "mem.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    READERS = 9,
    VERIFY = 1,
    GENERATE = 2,
    RESHARD = 6,
    READER_SECONDS = 10,
    STATUS_MAX = 16,
    KINDS_MAX = 16,
    READ_SKIPPED = -1
};

/* What a case's process says of itself, in memory that both see. */
struct said {
    char kind[32], changed[512], doing[32], error[READERS][TP_ERROR_LINE_MAX];
    int status[READERS];
};
static struct said *said;

/* ---- readers ---- */

/* What is read, what it was forged from, what readers make and where. */
static const char *bundle_dir, *base_dir, *made_dir, *partial_dir;

static bool shard(const struct command *command, const char *const *argv, struct tp_error *err)
{
    struct options options;
    int argc = 0;
    while (argv[argc])
        argc++;
    return options_parse(&options, command->id, argc, (char **)(uintptr_t)argv, err) &&
           command->run(&options, err);
}

static bool run(enum run_command id,
                bool (*fn)(const struct run_options *, struct report *, struct tp_error *),
                const char *const *argv, struct tp_error *err)
{
    struct run_options options;
    struct report report;
    int argc = 0;
    while (argv[argc])
        argc++;
    report_start(&report);
    return run_options_parse(&options, id, argc, (char **)(uintptr_t)argv, err) &&
           fn(&options, &report, err);
}

#define ARGS(...)                                                                                  \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

static bool read_inspect(struct tp_error *err)
{
    return shard(&command_inspect, ARGS("inspect", bundle_dir, "--tensors"), err) &&
           shard(&command_inspect, ARGS("inspect", bundle_dir, "--json"), err);
}

static bool read_verify(struct tp_error *err)
{
    return shard(&command_verify, ARGS("verify", bundle_dir, "--threads", "2"), err);
}

static bool read_diff(struct tp_error *err)
{
    return shard(&command_diff, ARGS("diff", bundle_dir, base_dir, "--threads", "1"), err);
}

static bool read_generate(struct tp_error *err)
{
    return run(
        RUN_GENERATE, cmd_generate,
        ARGS("generate", bundle_dir, "--prompt-ids", "1,2,3", "-n", "3", "--ids", "--threads", "2"),
        err);
}

static bool read_header_only(struct tp_error *err)
{
    return run(RUN_GENERATE, cmd_generate,
               ARGS("generate", bundle_dir, "--prompt-ids", "1", "-n", "2", "--json", "--verify",
                    "header", "--threads", "1", "-q"),
               err);
}

static bool read_text(struct tp_error *err)
{
    return run(RUN_GENERATE, cmd_generate,
               ARGS("generate", bundle_dir, "-p", "Hello world", "-n", "3", "--threads", "1", "-q"),
               err);
}

static bool read_selftest(struct tp_error *err)
{
    return run(RUN_SELFTEST, cmd_selftest, ARGS("selftest", bundle_dir, "--threads", "1"), err);
}

static bool read_reshard(struct tp_error *err)
{
    bool ok = shard(
        &command_reshard,
        ARGS("reshard", bundle_dir, "-o", made_dir, "--tp", "2", "--threads", "1", "-q"), err);
    return ok && (said->status[VERIFY] != TP_EXIT_OK ||
                  shard(&command_verify, ARGS("verify", made_dir, "--threads", "1", "-q"), err));
}

static bool read_export(struct tp_error *err)
{
    return shard(&command_export,
                 ARGS("export", bundle_dir, "-o", made_dir, "--threads", "1", "-q"), err);
}

static const struct reader {
    const char *name;
    bool (*read)(struct tp_error *err);
    unsigned percent; /* of the cases */
} readers[READERS] = {
    {"inspect", read_inspect, 50},    {"verify", read_verify, 100},
    {"generate", read_generate, 100}, {"header", read_header_only, 60},
    {"text", read_text, 40},          {"selftest", read_selftest, 30},
    {"reshard", read_reshard, 15},    {"export", read_export, 10},
    {"diff", read_diff, 15},
};

/* What verify accepts has nothing wrong in its bytes, and its values make a bundle that verify
 * accepts; files that travel along may say what cannot be run. */
static bool agree(const int status[READERS])
{
    int generate = status[GENERATE], reshard = status[RESHARD];
    return status[VERIFY] != TP_EXIT_OK ||
           (generate != TP_EXIT_IO && generate != TP_EXIT_INTEGRITY &&
            generate != TP_EXIT_MISMATCH && reshard <= TP_EXIT_OK);
}

/* ---- a case, in its own process ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void remove_tree(const char *path)
{
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void forge(uint64_t seed)
{
    struct forged f = {.random = seed};
    struct tp_error err = {0};
    char *text = NULL;
    size_t n;
    if (!forge_load(&f, base_dir, &err))
        exit(tp_error_print("forge_random", &err));
    forge_change(&f);
    snprintf(said->kind, sizeof said->kind, "%s", f.kind);
    snprintf(said->changed, sizeof said->changed, "%s", f.changed);
    if (!forge_seal(&f, &text, &n, &err) || !forge_write(&f, bundle_dir, text, n, &err))
        exit(tp_error_print("forge_random", &err));
    mem_free(text);
    forge_free(&f);
}

static void read_with(uint32_t i)
{
    struct tp_error err = {0};
    snprintf(said->doing, sizeof said->doing, "%s", readers[i].name);
    alarm(READER_SECONDS);
    bool ok = readers[i].read(&err);
    said->status[i] = ok ? TP_EXIT_OK : (int)tp_code_exit(err.code);
    if (!ok)
        tp_error_line(said->error[i], readers[i].name, &err);
    remove_tree(made_dir);
    remove_tree(partial_dir);
}

static _Noreturn void run_case(uint64_t seed)
{
    struct forged chance = {.random = ~seed};
    if (!freopen("/dev/null", "w", stdout))
        exit(1);
    snprintf(said->doing, sizeof said->doing, "forging");
    alarm(READER_SECONDS); /* it reads, too: for the bundle id */
    forge(seed);
    for (uint32_t i = 0; i < READERS; i++)
        if (forge_chance(&chance, readers[i].percent))
            read_with(i);
    alarm(0);
    snprintf(said->doing, sizeof said->doing, "the end");
    exit(0);
}

/* ---- all of them ---- */

struct tally {
    char kind[32];
    unsigned cases, status[READERS][STATUS_MAX];
};
static struct tally tallies[KINDS_MAX];

static void count(void)
{
    struct tally *t = tallies;
    while (t->kind[0] && strcmp(t->kind, said->kind) != 0)
        t++;
    tp_assert(t < tallies + KINDS_MAX);
    snprintf(t->kind, sizeof t->kind, "%s", said->kind);
    t->cases++;
    for (uint32_t i = 0; i < READERS; i++)
        if (said->status[i] != READ_SKIPPED)
            t->status[i][said->status[i] % STATUS_MAX]++;
}

static void print_tallies(void)
{
    for (const struct tally *t = tallies; t < tallies + KINDS_MAX && t->kind[0]; t++) {
        printf("%-10s %5u", t->kind, t->cases);
        for (uint32_t i = 0; i < READERS; i++) {
            printf("  %s", readers[i].name);
            for (int s = 0; s < STATUS_MAX; s++)
                if (t->status[i][s])
                    printf(" %d:%u", s, t->status[i][s]);
        }
        printf("\n");
    }
}

/* What is wrong with how the case ended; NULL: nothing. */
static const char *judge(int ended)
{
    static char text[128];
    if (WIFSIGNALED(ended)) {
        snprintf(text, sizeof text, "%s: %s", said->doing,
                 WTERMSIG(ended) == SIGALRM ? "hangs" : strsignal(WTERMSIG(ended)));
        return text;
    }
    if (WEXITSTATUS(ended) != 0) {
        snprintf(text, sizeof text, "%s: exit status %d", said->doing, WEXITSTATUS(ended));
        return text;
    }
    for (uint32_t i = 0; i < READERS; i++) {
        int s = said->status[i];
        if (s != READ_SKIPPED && s != 0 && !(s >= TP_EXIT_INPUT && s <= TP_EXIT_MISMATCH)) {
            snprintf(text, sizeof text, "%s: status %d", readers[i].name, s);
            return text;
        }
    }
    return agree(said->status) ? NULL : "verify accepts it, another reader does not";
}

static bool run_one(uint64_t seed, uint64_t number, uint64_t *memory)
{
    struct rusage usage;
    int ended;
    *said = (struct said){0};
    for (uint32_t i = 0; i < READERS; i++)
        said->status[i] = READ_SKIPPED;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        run_case(seed * UINT64_C(0x100000001b3) + number);
    tp_assert(pid > 0 && wait4(pid, &ended, 0, &usage) == pid);
    if ((uint64_t)usage.ru_maxrss > *memory)
        *memory = (uint64_t)usage.ru_maxrss;
    const char *wrong = judge(ended);
    if (wrong) {
        printf("FINDING case %llu of %s: %s\n  %s:%s\n", (unsigned long long)number, base_dir,
               wrong, said->kind, said->changed);
        for (uint32_t i = 0; i < READERS; i++)
            if (said->error[i][0])
                printf("  %s", said->error[i]);
    } else {
        count();
    }
    return !wrong;
}

static void keep(const char *dir, uint64_t number)
{
    char kept[IO_PATH_MAX];
    snprintf(kept, sizeof kept, "%s/case-%llu", dir, (unsigned long long)number);
    remove_tree(kept);
    if (rename(bundle_dir, kept) == 0)
        mkdir(bundle_dir, 0700);
}

int main(int argc, char **argv)
{
    static char bundle[IO_PATH_MAX], made[IO_PATH_MAX], partial[IO_PATH_MAX];
    uint64_t findings = 0, memory = 0;
    if (argc < 6) {
        fprintf(stderr, "usage: forge_random DIR SEED FIRST COUNT BUNDLE...\n");
        return 2;
    }
    uint64_t seed = strtoull(argv[2], NULL, 10), first = strtoull(argv[3], NULL, 10);
    uint64_t count_of = strtoull(argv[4], NULL, 10);
    snprintf(bundle, sizeof bundle, "%s/forged", argv[1]);
    snprintf(made, sizeof made, "%s/made", argv[1]);
    snprintf(partial, sizeof partial, "%s/made.partial", argv[1]);
    bundle_dir = bundle;
    made_dir = made;
    partial_dir = partial;
    said = mmap(NULL, sizeof *said, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    tp_assert(said != MAP_FAILED);
    for (uint64_t i = first; i < first + count_of; i++) {
        base_dir = argv[5 + i % (uint64_t)(argc - 5)];
        remove_tree(bundle);
        tp_assert(mkdir(bundle, 0700) == 0);
        if (!run_one(seed, i, &memory)) {
            keep(argv[1], i);
            findings++;
        }
    }
    print_tallies();
    printf("%llu cases, %llu findings, at most %llu MiB\n", (unsigned long long)count_of,
           (unsigned long long)findings, (unsigned long long)memory >> 10);
    return findings != 0;
}
