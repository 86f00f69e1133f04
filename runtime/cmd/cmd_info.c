/* tprun info: what this machine has to run on. */
#include "cmd.h"

#include "shown.h"
#include <stdio.h>
#include <string.h>

static void print_line(const char *device, const char *what, const char *text)
{
    printf("%s %s", device, what);
    shown_put(stdout, text);
    putchar('\n');
}

/* Every line of text, with the device's name in front. */
static void print_lines(const char *device, char *text)
{
    for (char *end; (end = strchr(text, '\n')); text = end + 1) {
        *end = '\0';
        print_line(device, "", text);
    }
}

bool cmd_info(const struct run_options *options, struct report *report, struct tp_error *err)
{
    static const struct device_type *const devices[] = {&device_cpu, &device_cuda};
    (void)options, (void)report, (void)err;
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        char text[DEVICE_INFO_MAX];
        struct tp_error why = {0};
        if (devices[i]->info(text, &why))
            print_lines(devices[i]->name, text);
        else /* says which device */
            print_line(devices[i]->name, "none: ", why.text);
    }
    return true;
}
