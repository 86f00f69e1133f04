#include "jinja_inside.h"
bool jinja_percent(struct jinja *j, const struct jinja_string *text, struct jinja_value args,
                   struct jinja_value *out)
{
    (void)text, (void)args, (void)out;
    return jinja_stop(j, JINJA_RUNTIME, "printf-style formatting is not supported");
}
bool jinja_str_format(struct jinja *j, const struct jinja_string *text,
                      const struct jinja_args *args, struct jinja_value *out)
{
    (void)text, (void)args, (void)out;
    return jinja_stop(j, JINJA_RUNTIME, "str.format is not supported");
}
