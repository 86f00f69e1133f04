#!/bin/sh
# demo.sh BUILD: convert the small model of the tree to three ranks and stream a story.
set -eu
cd "$(dirname "$0")/.."
build=$1
bundle=$build/demo
rm -rf "$bundle" "$bundle.partial"
echo "\$ tpshard convert tests/data/demo/stories -o $bundle --tp 3"
"$build/tpshard" convert tests/data/demo/stories -o "$bundle" --tp 3
echo "\$ tprun generate $bundle -p 'Once upon a time' -n 220 --temp 0.6 --seed 7"
"$build/tprun" generate "$bundle" -p 'Once upon a time' -n 220 --temp 0.6 --seed 7
