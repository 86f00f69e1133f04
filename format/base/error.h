/* Errors of both programs: one vocabulary, filled where the failure happens, printed once by main.
 *
 * A function that can fail returns bool and takes `struct tp_error *err` last. It fills err with a
 * code of the table below and one sentence naming file, tensor or field, what was expected and what
 * was found. The first error stays: later failures while cleaning up do not overwrite it.
 * The code's letters name the area; its text (ST17) is stable, the sentence is not.
 */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* Exit codes: a contract with scripts (docs/architecture.md). */
enum tp_exit {
    TP_EXIT_OK = 0,
    TP_EXIT_USAGE = 2,        /* wrong command line or unsafe option combination */
    TP_EXIT_INPUT = 3,        /* input malformed, contradictory or hostile */
    TP_EXIT_UNSUPPORTED = 4,  /* valid but not supported */
    TP_EXIT_IO = 5,           /* errno named */
    TP_EXIT_LIMIT = 6,        /* limit or memory: needed, allowed or available named */
    TP_EXIT_INTEGRITY = 7,    /* checksum, or a file changed while in use */
    TP_EXIT_MISMATCH = 8,     /* ranks, degree, conversion, version */
    TP_EXIT_COMM = 9,         /* communication or rank failure, deadline */
    TP_EXIT_INTERRUPTED = 10, /* resumable; the line says how */
    TP_EXIT_BUG = 70,         /* assertion; never reachable from input */
};

/* X(name, text, exit). Texts are never reused. */
#define TP_ERROR_TABLE(X)                                                                          \
    X(TP_OK, "OK00", TP_EXIT_OK)                                                                   \
    /* command line */                                                                             \
    X(TP_E_USAGE, "CL01", TP_EXIT_USAGE)                                                           \
    X(TP_E_UNSUPPORTED, "CL02", TP_EXIT_UNSUPPORTED)                                               \
    X(TP_E_OUTPUT_EXISTS, "CL03", TP_EXIT_USAGE)                                                   \
    X(TP_E_TP_RANGE, "CL04", TP_EXIT_USAGE)                                                        \
    X(TP_E_ISA, "CL05", TP_EXIT_UNSUPPORTED)                                                       \
    /* files and system */                                                                         \
    X(TP_E_IO, "IO01", TP_EXIT_IO)                                                                 \
    X(TP_E_NOT_REGULAR, "IO02", TP_EXIT_INPUT)                                                     \
    X(TP_E_LOCKED, "IO03", TP_EXIT_IO)                                                             \
    X(TP_E_CHANGED, "IO04", TP_EXIT_INTEGRITY)                                                     \
    X(TP_E_CHILD, "IO05", TP_EXIT_IO)                                                              \
    X(TP_E_FOREIGN, "IO06", TP_EXIT_IO)                                                            \
    X(TP_E_MEMORY, "MM01", TP_EXIT_LIMIT)                                                          \
    X(TP_E_LIMIT, "MM02", TP_EXIT_LIMIT)                                                           \
    X(TP_E_INTERRUPTED, "IN01", TP_EXIT_INTERRUPTED)                                               \
    /* JSON of any kind */                                                                         \
    X(TP_E_JSON, "JS01", TP_EXIT_INPUT)                                                            \
    X(TP_E_JSON_FIELD, "JS02", TP_EXIT_INPUT)                                                      \
    /* safetensors: the number is the row of the fault catalogue where there is one */             \
    X(TP_E_ST_SHORT, "ST01", TP_EXIT_INPUT)                                                        \
    X(TP_E_ST_EMPTY, "ST03", TP_EXIT_INPUT)                                                        \
    X(TP_E_ST_LENGTH, "ST04", TP_EXIT_INPUT)                                                       \
    X(TP_E_ST_CAP, "ST05", TP_EXIT_LIMIT)                                                          \
    X(TP_E_ST_UTF8, "ST06", TP_EXIT_INPUT)                                                         \
    X(TP_E_ST_JSON, "ST07", TP_EXIT_INPUT)                                                         \
    X(TP_E_ST_DEPTH, "ST09", TP_EXIT_INPUT)                                                        \
    X(TP_E_ST_DUPLICATE, "ST10", TP_EXIT_INPUT)                                                    \
    X(TP_E_ST_FIELD, "ST12", TP_EXIT_INPUT)                                                        \
    X(TP_E_ST_DTYPE, "ST14", TP_EXIT_INPUT)                                                        \
    X(TP_E_ST_DTYPE_OTHER, "ST15", TP_EXIT_UNSUPPORTED)                                            \
    X(TP_E_ST_SHAPE, "ST16", TP_EXIT_INPUT)                                                        \
    X(TP_E_ST_OVERFLOW, "ST17", TP_EXIT_INPUT)                                                     \
    X(TP_E_ST_RANK, "ST19", TP_EXIT_INPUT)                                                         \
    X(TP_E_ST_OFFSETS, "ST20", TP_EXIT_INPUT)                                                      \
    X(TP_E_ST_OVERLAP, "ST21", TP_EXIT_INPUT)                                                      \
    X(TP_E_ST_HOLE, "ST22", TP_EXIT_INPUT)                                                         \
    X(TP_E_ST_TRAILING, "ST23", TP_EXIT_INPUT)                                                     \
    X(TP_E_ST_SUBBYTE, "ST24", TP_EXIT_INPUT)                                                      \
    X(TP_E_ST_CUT, "ST25", TP_EXIT_INPUT)                                                          \
    X(TP_E_ST_SIZE, "ST26", TP_EXIT_INPUT)                                                         \
    X(TP_E_ST_NAME, "ST28", TP_EXIT_INPUT)                                                         \
    X(TP_E_ST_METADATA, "ST29", TP_EXIT_INPUT)                                                     \
    X(TP_E_ST_COUNT, "ST30", TP_EXIT_LIMIT)                                                        \
    X(TP_E_ST_KIND, "ST31", TP_EXIT_INPUT)                                                         \
    X(TP_E_ST_TENSOR, "ST34", TP_EXIT_INPUT)                                                       \
    X(TP_E_NONFINITE, "ST35", TP_EXIT_INPUT)                                                       \
    X(TP_E_RANGE, "ST36", TP_EXIT_INPUT)                                                           \
    /* index and folder */                                                                         \
    X(TP_E_IX_PATH, "IX36", TP_EXIT_INPUT)                                                         \
    X(TP_E_IX_MISSING, "IX37", TP_EXIT_INPUT)                                                      \
    X(TP_E_IX_WRONG, "IX38", TP_EXIT_INPUT)                                                        \
    X(TP_E_IX_FIELD, "IX40", TP_EXIT_INPUT)                                                        \
    X(TP_E_IX_AMBIGUOUS, "IX41", TP_EXIT_INPUT)                                                    \
    X(TP_E_IX_LINK, "IX42", TP_EXIT_INPUT)                                                         \
    X(TP_E_IX_PICKLE, "IX44", TP_EXIT_UNSUPPORTED)                                                 \
    X(TP_E_IX_CASE, "IX45", TP_EXIT_INPUT)                                                         \
    /* config.json and generation_config.json */                                                   \
    X(TP_E_CF_FILE, "CF46", TP_EXIT_INPUT)                                                         \
    X(TP_E_CF_FIELD, "CF47", TP_EXIT_INPUT)                                                        \
    X(TP_E_CF_RANGE, "CF48", TP_EXIT_INPUT)                                                        \
    X(TP_E_CF_HEADS, "CF49", TP_EXIT_INPUT)                                                        \
    X(TP_E_CF_LAYERS, "CF51", TP_EXIT_INPUT)                                                       \
    X(TP_E_CF_SHAPE, "CF52", TP_EXIT_INPUT)                                                        \
    X(TP_E_CF_ROPE, "CF54", TP_EXIT_INPUT)                                                         \
    X(TP_E_CF_ARCH, "CF55", TP_EXIT_UNSUPPORTED)                                                   \
    X(TP_E_CF_KEY, "CF56", TP_EXIT_UNSUPPORTED)                                                    \
    X(TP_E_CF_TIED, "CF57", TP_EXIT_INPUT)                                                         \
    X(TP_E_CF_TOKEN_ID, "CF58", TP_EXIT_INPUT)                                                     \
    X(TP_E_CF_GENERATION, "CF60", TP_EXIT_INPUT)                                                   \
    /* tokenizer */                                                                                \
    X(TP_E_TK_INVALID, "TK01", TP_EXIT_INPUT)                                                      \
    X(TP_E_TK_UNSUPPORTED, "TK02", TP_EXIT_UNSUPPORTED)                                            \
    X(TP_E_TK_TEXT, "TK03", TP_EXIT_INPUT)                                                         \
    X(TP_E_TEMPLATE_SYNTAX, "TM01", TP_EXIT_INPUT)                                                 \
    X(TP_E_TEMPLATE, "TM02", TP_EXIT_INPUT)                                                        \
    X(TP_E_PROMPT, "PR01", TP_EXIT_INPUT)                                                          \
    /* bundles: manifest, rank files, journal */                                                   \
    X(TP_E_BUNDLE_NONE, "BN01", TP_EXIT_INPUT)                                                     \
    X(TP_E_MANIFEST, "MF01", TP_EXIT_INPUT)                                                        \
    X(TP_E_MANIFEST_HASH, "MF02", TP_EXIT_INTEGRITY)                                               \
    X(TP_E_VERSION, "MF03", TP_EXIT_MISMATCH)                                                      \
    X(TP_E_FILE_HASH, "MF04", TP_EXIT_INTEGRITY)                                                   \
    X(TP_E_SHARD, "SH01", TP_EXIT_INPUT)                                                           \
    X(TP_E_SHARD_HASH, "SH02", TP_EXIT_INTEGRITY)                                                  \
    X(TP_E_SHARD_SIZE, "SH03", TP_EXIT_INTEGRITY)                                                  \
    X(TP_E_SHARD_MIXED, "SH04", TP_EXIT_MISMATCH)                                                  \
    X(TP_E_JOURNAL, "JN01", TP_EXIT_INTEGRITY)                                                     \
    X(TP_E_JOURNAL_OTHER, "JN02", TP_EXIT_MISMATCH)                                                \
    X(TP_E_VALUE_DIFFERS, "VF01", TP_EXIT_INTEGRITY)                                               \
    X(TP_E_SELFTEST, "SL01", TP_EXIT_INTEGRITY)                                                    \
    X(TP_E_DIFF, "DF01", TP_EXIT_MISMATCH)                                                         \
    /* ranks */                                                                                    \
    X(TP_E_HANDSHAKE, "RK01", TP_EXIT_MISMATCH)                                                    \
    X(TP_E_RANK, "RK02", TP_EXIT_COMM)                                                             \
    X(TP_E_NAN, "RK03", TP_EXIT_INPUT)                                                             \
    X(TP_E_DEVICE, "GP01", TP_EXIT_COMM)

enum tp_code {
#define X(name, text, exit_code) name,
    TP_ERROR_TABLE(X)
#undef X
        TP_CODE_COUNT
};

#define TP_ERROR_LINE_MAX 512

struct tp_error {
    enum tp_code code;            /* TP_OK: no error yet */
    char text[TP_ERROR_LINE_MAX]; /* one sentence, raw bytes; escaped when printed */
};

/* The sentence and, if there is one (or NULL), ": reason". Of one that is too long, long words
 * (paths, names) lose their middle: file and reason stay. */
void tp_sentence(char text[TP_ERROR_LINE_MAX], const char *reason, const char *fmt, va_list args);

/* Fill err (unless it already holds an error or is NULL). Always returns false. The
 * text is tp_sentence's. */
bool tp_fail(struct tp_error *err, enum tp_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, with ": strerror(errno)" appended, code TP_E_IO (TP_E_MEMORY for ENOMEM). */
bool tp_fail_errno(struct tp_error *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The name that lines begin with which nobody was asked to print: of signals. "" at first. */
void tp_set_program(const char *name);
const char *tp_program(void);

const char *tp_code_text(enum tp_code code);
enum tp_exit tp_code_exit(enum tp_code code);

/* Print "PROGRAM: error CODE: text" as one line of at most 512 bytes on stderr, as shown.h shows
 * it. Returns the exit status of the code. */
int tp_error_print(const char *program, const struct tp_error *err);
/* That line alone; its length. */
size_t tp_error_line(char line[TP_ERROR_LINE_MAX], const char *program, const struct tp_error *err);
/* One line "PROGRAM: warning: ...", escaped alike. kind is that word. */
void tp_message(const char *program, const char *kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* A note: what is as it may be, and worth a line; said until they are hushed (-q). */
void tp_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void tp_hush_notes(void);
bool tp_notes_hushed(void);

/* A name for an error text: at most 96 bytes of it, then "... (N bytes)". Returns buf. */
#define TP_NAME_BUF 160
const char *tp_name_cut(char buf[TP_NAME_BUF], const char *name, size_t len);

/* Assertion that stays in release builds: our bug, never the input's. Exit 70. */
_Noreturn void tp_assert_fail(const char *what, const char *file, int line);
#define tp_assert(cond) ((cond) ? (void)0 : tp_assert_fail(#cond, __FILE__, __LINE__))
