/* The config.json of an export: the checkpoint's own, changed where the bundle is of another dtype
 * or of fewer layers. */
#pragma once
#include "bundle.h"

/* Does it differ from the bundle's? */
bool export_config_changes(const struct bundle *bundle);
/* data (n): the bundle's config.json. The same with dtype and number of layers as they are
 * exported, in their own keys' places; *size bytes, freed with mem_free. NULL: TP_E_CF_FILE,
 * TP_E_MEMORY */
char *export_config_text(const struct bundle *bundle, const char *data, size_t n, size_t *size,
                         struct tp_error *err);
