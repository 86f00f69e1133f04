#!/bin/sh
# `make format` would change nothing. Other versions of the formatter lay out differently: only 14 is asked.
set -eu
cd "$(dirname "$0")/.."
case $(clang-format --version 2>/dev/null) in
*" 14."*) ;;
*) echo "SKIP format: clang-format 14 is not installed"; exit ;;
esac
find format kernels tools runtime tests '(' -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' ')' -exec clang-format --dry-run -Werror {} +
echo "formatted"
