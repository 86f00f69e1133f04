#!/bin/sh
# make_version.sh VERSION HEADER: which version and commit is built, as a header that is written only where it
# changes. No time is in it: the same sources give the same programs.
set -eu
header=$2
commit=
# A folder below somebody else's repository is no checkout of ours.
[ ! -e .git ] || commit=$(GIT_OPTIONAL_LOCKS=0 git describe --always --dirty 2>/dev/null) || commit=
if [ -z "$commit" ] && [ -e .git ] && [ -s "$header" ]; then
  # built before by whom git answers; `sudo make install` must not build anew
  commit=$(sed -n 's/^#define TP_COMMIT "\(.*\)"$/\1/p' "$header")
fi
mkdir -p "$(dirname "$header")"
trap 'rm -f "$header.$$"' EXIT
printf '#define TP_VERSION "%s"\n#define TP_COMMIT "%s"\n' "$1" "${commit:-unknown}" >"$header.$$"
cmp -s "$header.$$" "$header" || mv "$header.$$" "$header"
