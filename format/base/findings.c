#include "findings.h"

#include <stdarg.h>

bool finding_warn(struct findings *findings, enum tp_code code, struct tp_error *err,
                  const char *fmt, ...)
{
    char text[TP_ERROR_LINE_MAX];
    va_list args;
    va_start(args, fmt);
    tp_sentence(text, NULL, fmt, args);
    va_end(args);
    tp_assert(tp_code_exit(code) == TP_EXIT_INPUT);
    if (findings->strict)
        return tp_fail(err, code, "%s", text);
    findings->warnings++;
    if (!findings->quiet)
        tp_message(tp_program(), "warning", "%s", text);
    return true;
}

bool finding_forgive(struct findings *findings, struct tp_error *why, const char *what_follows,
                     struct tp_error *err)
{
    if (tp_code_exit(why->code) != TP_EXIT_INPUT) {
        *err = *why;
        return false;
    }
    bool ok = finding_warn(findings, why->code, err, "%s: %s", why->text, what_follows);
    *why = (struct tp_error){0};
    return ok;
}

void finding_note(const struct findings *findings, const char *fmt, ...)
{
    char text[TP_ERROR_LINE_MAX];
    va_list args;
    if (!findings || findings->quiet)
        return;
    va_start(args, fmt);
    tp_sentence(text, NULL, fmt, args);
    va_end(args);
    tp_note("%s", text);
}
