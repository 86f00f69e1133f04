#!/bin/sh
# Which rooms a room may include, its own aside. Tools and runtime never see each other. Headers are found by bare
# name, so a name that two rooms share would be ambiguous: an error.
set -eu
cd "$(dirname "$0")/.."
status=0
allowed() { # room -> rooms it may include
  format="format/base format format/text format/text/jinja format/output"
  case $1 in
  format/base | format/text/jinja) echo "format/base" ;;
  format) echo "format/base" ;;
  format/text | format/output) echo "format/base format" ;;
  kernels) echo "format/base format" ;;
  kernels/cuda) echo "" ;;
  kernels/cpu) echo "format/base format kernels" ;;
  tools | tools/hf | tools/tokenizer) echo "$format tools" ;;
  tools/bundle) echo "$format tools tools/hf tools/tokenizer" ;;
  tools/cmd) echo "$format tools tools/hf tools/tokenizer tools/bundle" ;;
  runtime) echo "$format kernels" ;;
  runtime/cpu) echo "$format kernels runtime" ;;
  runtime/cuda) echo "$format kernels kernels/cuda runtime" ;;
  runtime/text) echo "$format" ;;
  runtime/cmd) echo "$format runtime runtime/text" ;;
  *) echo "$1 is no room of this script" >&2; status=1 ;;
  esac
}
rooms=$(find format kernels tools runtime -type d)
doubled=$(find $rooms -maxdepth 1 -name '*.h' -printf '%f\n' | sort | uniq -d)
[ -z "$doubled" ] || { echo "two headers of one name: $doubled"; status=1; }
for room in $rooms; do
  may=" $room $(allowed "$room") "
  # the emulated device of the tests has a header of its own
  for pair in $(find "$room" -maxdepth 1 -name '*.[ch]' ! -name tprun.c -exec grep -Ho '^#include "[^"]*"' {} + |
    sed 's/#include "\(.*\)"/\1/' | grep -v emul.h | sort -u); do
    header=${pair##*:}
    target=$(dirname "$(find $rooms -maxdepth 1 -name "$header" | head -1)")
    case $may in
    *" $target "*) ;;
    *) echo "${pair%%:*} includes $header of $target"; status=1 ;;
    esac
  done
done
[ $status = 0 ] && echo "includes point down"
exit $status
