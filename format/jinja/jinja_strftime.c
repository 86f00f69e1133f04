/* strftime in English, whatever the locale: what datetime.now().strftime gives in the C locale. */
#include "jinja_inside.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct clock {
    int64_t seconds;
    int64_t year;
    int month, day, hour, minute, second; /* month and day from 1 */
    int weekday, day_of_year;             /* from 0: Sunday, 1 January */
};

static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                   "Thursday", "Friday", "Saturday"};
static const char *const months[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static void clock_set(struct clock *c, int64_t now)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const int64_t day_seconds = 86400, most = (int64_t)253402300799; /* the year 9999 ends */
    now = now > most ? most : now < -62135596800 ? -62135596800 : now;
    c->seconds = now;
    int64_t day = now / day_seconds - (now % day_seconds < 0), rest = now - day * day_seconds;
    c->hour = (int)(rest / 3600);
    c->minute = (int)(rest / 60 % 60);
    c->second = (int)(rest % 60);
    c->weekday = (int)(((day + 4) % 7 + 7) % 7);
    /* a year that is not after it, then upwards */
    c->year = 1970 + (day < 0 ? day / 365 : day / 366) - 1;
    if (c->year < 1)
        c->year = 1;
    int64_t before = c->year - 1;
    int64_t first = before * 365 + before / 4 - before / 100 + before / 400 - 719162;
    while (day >= first + 365 + is_leap(c->year))
        first += 365 + is_leap(c->year++);
    c->day_of_year = (int)(day - first);
    int left = c->day_of_year;
    for (c->month = 1;; c->month++) {
        int length = lengths[c->month - 1] + (c->month == 2 && is_leap(c->year));
        if (left < length)
            break;
        left -= length;
    }
    c->day = left + 1;
}

/* ISO 8601: weeks begin on Monday, the first has the year's first Thursday */
static int iso_week(const struct clock *c, int64_t *year)
{
    int from_monday = (c->weekday + 6) % 7;
    int week = (c->day_of_year - from_monday + 10) / 7;
    *year = c->year;
    if (week < 1) {
        --*year;
        int days_before = 365 + is_leap(*year);
        return (c->day_of_year + days_before - from_monday + 10) / 7;
    }
    int days_now = 365 + is_leap(c->year);
    if (week == 53 && c->day_of_year - from_monday + 3 >= days_now) {
        ++*year;
        return 1;
    }
    return week;
}

enum { PIECE = 64 };

/* flag: '-' no padding, '_' spaces, '0' zeros, 0: the default */
static void number(char out[PIECE], int64_t value, int width, char pad, char flag)
{
    if (flag == '-')
        snprintf(out, PIECE, "%" PRId64, value);
    else if (flag == '_' || (pad == ' ' && flag != '0'))
        snprintf(out, PIECE, "%*" PRId64, width, value);
    else
        snprintf(out, PIECE, "%0*" PRId64, width, value);
}

static bool piece_of_date(const struct clock *c, char code, char flag, char out[PIECE])
{
    int64_t year;
    int week = iso_week(c, &year), twelve = c->hour % 12 ? c->hour % 12 : 12;
    int sunday_week = (c->day_of_year + 7 - c->weekday) / 7;
    int monday_week = (c->day_of_year + 7 - (c->weekday + 6) % 7) / 7;
    const struct {
        char code, pad;
        int width;
        int64_t value;
    } numbers[] = {
        {'Y', '0', 1, c->year},       {'C', '0', 2, c->year / 100},
        {'y', '0', 2, c->year % 100}, {'G', '0', 1, year},
        {'g', '0', 2, year % 100},    {'V', '0', 2, week},
        {'U', '0', 2, sunday_week},   {'W', '0', 2, monday_week},
        {'m', '0', 2, c->month},      {'d', '0', 2, c->day},
        {'e', ' ', 2, c->day},        {'j', '0', 3, c->day_of_year + 1},
        {'H', '0', 2, c->hour},       {'k', ' ', 2, c->hour},
        {'I', '0', 2, twelve},        {'l', ' ', 2, twelve},
        {'M', '0', 2, c->minute},     {'S', '0', 2, c->second},
        {'w', '0', 1, c->weekday},    {'u', '0', 1, c->weekday ? c->weekday : 7},
        {'s', '0', 1, c->seconds},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].code == code) {
            number(out, numbers[i].value, numbers[i].width, numbers[i].pad, flag);
            return true;
        }
    return false;
}

static const char *long_form(char code)
{
    switch (code) {
    case 'c':
        return "%a %b %e %H:%M:%S %Y";
    case 'D':
    case 'x':
        return "%m/%d/%y";
    case 'F':
        return "%Y-%m-%d";
    case 'R':
        return "%H:%M";
    case 'r':
        return "%I:%M:%S %p";
    case 'T':
    case 'X':
        return "%H:%M:%S";
    default:
        return NULL;
    }
}

static void piece_of_words(const struct clock *c, char code, char out[PIECE])
{
    const char *month = months[c->month - 1], *day = days[c->weekday];
    const char *half = c->hour < 12 ? "AM" : "PM";
    switch (code) {
    case 'A':
        snprintf(out, PIECE, "%s", day);
        return;
    case 'a':
        snprintf(out, PIECE, "%.3s", day);
        return;
    case 'B':
        snprintf(out, PIECE, "%s", month);
        return;
    case 'b':
    case 'h':
        snprintf(out, PIECE, "%.3s", month);
        return;
    case 'p':
        snprintf(out, PIECE, "%s", half);
        return;
    case 'P':
        snprintf(out, PIECE, "%s", c->hour < 12 ? "am" : "pm");
        return;
    case 'f':
        snprintf(out, PIECE, "000000");
        return;
    case 'n':
        snprintf(out, PIECE, "\n");
        return;
    case 't':
        snprintf(out, PIECE, "\t");
        return;
    case '%':
        snprintf(out, PIECE, "%%");
        return;
    case 'z': /* the clock has no zone, as datetime.now() has none */
    case 'Z':
        out[0] = '\0';
        return;
    default:
        snprintf(out, PIECE, "%%%c", code);
        return;
    }
}

/* The flags ^ and #, as the C library has them */
static void change_case(char *piece, char code, char flag)
{
    if (code == 'P')
        return;
    if (flag == '#' && code == 'p')
        for (char *p = piece; *p; p++)
            *p = (char)(*p | 0x20);
    else
        for (char *p = piece; *p; p++)
            if (*p >= 'a' && *p <= 'z')
                *p = (char)(*p - 32);
}

/* format: n bytes; origin: whose they are, NULL: the template's. up: ^ holds for all of it */
static bool add_date(struct jinja *j, struct jinja_builder *b, const struct clock *c,
                     const char *format, size_t n, const struct jinja_string *origin, char up)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        bool data = origin && jinja_mark_at(origin, at);
        if (format[i] != '%' || i + 1 == n) {
            if (!jinja_add(j, b, format + i, 1, data))
                return false;
            continue;
        }
        char piece[PIECE], flag = 0, letters = up;
        for (i++; i + 1 < n && strchr("-_0^#", format[i]); i++) {
            if (format[i] == '^' || format[i] == '#')
                letters = format[i];
            else
                flag = format[i];
        }
        const char *form = long_form(format[i]);
        if (form) {
            if (!add_date(j, b, c, form, strlen(form), NULL, letters == '^' ? letters : 0))
                return false;
            continue;
        }
        if (!piece_of_date(c, format[i], flag, piece))
            piece_of_words(c, format[i], piece);
        if (letters)
            change_case(piece, format[i], letters);
        if (!jinja_add(j, b, piece, strlen(piece), data))
            return false;
    }
    return true;
}

bool jinja_strftime(struct jinja *j, const struct jinja_string *format, int64_t now,
                    struct jinja_value *out)
{
    struct clock clock;
    struct jinja_builder text = {0};
    clock_set(&clock, now);
    return add_date(j, &text, &clock, format->bytes, format->n, format, 0) &&
           jinja_build(j, &text, out);
}
