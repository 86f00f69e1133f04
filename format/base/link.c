#include "link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool may_lead_to(const char *real, const char *target)
{
    static const char models[] = "/models--", snapshots[] = "/snapshots/", blobs[] = "/blobs/";
    size_t n = strlen(real);
    if (strncmp(target, real, n) == 0 && target[n] == '/')
        return true;
    for (const char *at = real; (at = strstr(at, models)); at++) {
        size_t hub = (size_t)(at - real) + 1 + strcspn(at + 1, "/");
        if (strncmp(real + hub, snapshots, sizeof snapshots - 1) == 0 &&
            strncmp(target, real, hub) == 0 && strncmp(target + hub, blobs, sizeof blobs - 1) == 0)
            return true;
    }
    return false;
}

bool link_check(const char *dir, const char *name, const char *advice, struct tp_error *err)
{
    char path[IO_PATH_MAX], real[IO_PATH_MAX], target[IO_PATH_MAX];
    struct stat st;
    if (!io_join(path, dir, name, err))
        return false;
    if (lstat(path, &st) != 0 || !S_ISLNK(st.st_mode))
        return true;
    if (!realpath(dir, real))
        return tp_fail_errno(err, "%s", dir);
    if (!realpath(path, target))
        return errno == ENOENT ? tp_fail(err, TP_E_IX_LINK,
                                         "%s: is a link that leads nowhere; if a download was cut "
                                         "short: hf download again",
                                         path)
                               : tp_fail_errno(err, "%s", path);
    return !advice || may_lead_to(real, target) ||
           tp_fail(err, TP_E_IX_LINK, "%s: is a link out of the folder, to %.200s%s", path, target,
                   advice);
}
