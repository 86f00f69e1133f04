#include "jinja_filters.h"
#define LATER(name)                                                                                \
    bool jinja_filter_##name(struct jinja *j, struct jinja_value value,                            \
                             const struct jinja_args *args, struct jinja_value *out)               \
    {                                                                                              \
        (void)value, (void)args, (void)out;                                                        \
        return jinja_stop(j, JINJA_RUNTIME, #name " is not supported");                            \
    }
LATER(wordwrap) LATER(striptags) LATER(urlencode) LATER(xmlattr) LATER(filesizeformat) LATER(pprint)
