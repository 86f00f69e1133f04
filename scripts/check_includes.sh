#!/bin/sh
# Includes point down only: tools | runtime -> kernels -> format -> format/base, and tools | runtime ->
# format/output -> format; tools and runtime never see each other. Headers are found by bare name, so a name that two rooms share would be ambiguous: an error.
set -eu
cd "$(dirname "$0")/.."
status=0
room_of() { # the room of a header, by its name
  for room in format/base format/output format kernels tools runtime; do
    if [ -e "$room/$1" ] || { [ "$room" = kernels ] && [ -e "kernels/cpu/$1" ]; } ||
      { [ "$room" = format ] && [ -e "format/jinja/$1" ]; }; then
      echo "$room"
      return
    fi
  done
  echo none
}
allowed() { # room -> rooms it may include
  case $1 in
  format/base) echo "format/base" ;;
  format) echo "format/base format" ;;
  format/output) echo "format/base format format/output" ;;
  kernels) echo "format/base format kernels" ;;
  tools) echo "format/base format format/output kernels tools" ;;
  runtime) echo "format/base format format/output kernels runtime" ;;
  esac
}
doubled=$(find format kernels tools runtime -name '*.h' -printf '%f\n' | sort | uniq -d)
[ -z "$doubled" ] || { echo "two headers of one name: $doubled"; status=1; }
for room in format/base format/output format kernels tools runtime; do
  may=" $(allowed "$room") "
  case $room in
  kernels) files=$(ls kernels/*.[ch] kernels/cpu/*.[ch]) ;;
  format) files=$(ls format/*.[ch] format/jinja/*.[ch]) ;;
  *) files=$(ls "$room"/*.[ch]) ;;
  esac
  for pair in $(grep -Ho '^#include "[^"]*"' $files | sed 's/#include "\(.*\)"/\1/' | sort -u); do
    header=${pair##*:}
    from=${pair%%:*}
    target=$(room_of "$header")
    case $may in
    *" $target "*) ;;
    *) echo "$from includes $header of $target"; status=1 ;;
    esac
  done
done
# what only commands may know
for file in $(grep -l '^#include "\(run_options\|cmd\).h"' runtime/*.[ch]); do
  case $file in
  runtime/cmd.[ch] | runtime/cmd_*.c | runtime/run_options.c | runtime/run_help.h | runtime/tprun.c) ;;
  *) echo "$file includes the command line"; status=1 ;;
  esac
done
[ $status = 0 ] && echo "includes point down"
exit $status
