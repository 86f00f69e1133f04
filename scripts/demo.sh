#!/bin/sh
# demo.sh BUILD: convert the small model of the tree to three ranks and stream a story. Seed and temperature are
# fixed, so that the text is README.md's, whatever the machine (tests/cli/test_demo.py compares them).
set -eu
cd "$(dirname "$0")/.."
build=$1
bundle=$build/demo
prompt='Once upon a time, there was a little bird'

rm -rf "$bundle" "$bundle.partial"
echo "\$ tpshard convert tests/data/demo/stories -o $bundle --tp 3"
"$build/tpshard" convert tests/data/demo/stories -o "$bundle" --tp 3
echo
echo "\$ tprun generate $bundle -p '$prompt' -n 160 --temp 0.5 --seed 44"
# tprun prints what is new; the prompt before it makes it a story.
printf '%s' "$prompt"
"$build/tprun" generate "$bundle" -p "$prompt" -n 160 --temp 0.5 --seed 44
