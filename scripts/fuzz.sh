#!/bin/sh
# Run fuzz targets one after the other: fuzz.sh SECONDS TARGET... New inputs gather in
# build/fuzz/corpus/TARGET, beginning from tests/fuzz/corpus/TARGET; an input that fails is left in
# build/fuzz/found/TARGET-*, and the run ends with status 1.
set -eu
cd "$(dirname "$0")/.."
seconds=$1
shift
status=0
mkdir -p build/fuzz/found
for target in "$@"; do
  corpus=build/fuzz/corpus/$target
  mkdir -p "$corpus" "tests/fuzz/corpus/$target"
  dictionary=tests/fuzz/$target.dict
  [ -e "$dictionary" ] && dictionary=-dict=$dictionary || dictionary=
  echo "== $target, $seconds s"
  build/fuzz/tests/"$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
    $dictionary -artifact_prefix="build/fuzz/found/$target-" -print_final_stats=1 "$corpus" \
    "tests/fuzz/corpus/$target" 2>"build/fuzz/$target.log" || {
    status=1
    grep -E 'ERROR|SUMMARY|runtime error|assert' "build/fuzz/$target.log" | head -5
  }
  grep -E '^stat::(number_of_executed_units|peak_rss_mb)|DONE' "build/fuzz/$target.log" || true
done
exit $status
