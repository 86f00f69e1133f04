#!/bin/sh
# `make format` would change nothing, and no line is too long. Other versions of the formatter lay out differently: only 14 is asked.
set -eu
cd "$(dirname "$0")/.."
case $(clang-format --version 2>/dev/null) in
*" 14."*) ;;
*) echo "SKIP format: clang-format 14 is not installed"; exit ;;
esac
find format kernels tools runtime tests '(' -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' ')' -exec clang-format --dry-run -Werror {} +
# Comments are left as they are by it. Bytes are counted, so lines that are not ASCII are left out.
find format kernels tools runtime tests '(' -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' ')' -exec awk '
  length > 100 && !/[^ -~]/ { print FILENAME ":" FNR ": longer than 100 columns"; long = 1 }
  END { exit long }' {} +
echo "formatted"
