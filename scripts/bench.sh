#!/bin/sh
# bench.sh: measure on this machine, as ratios against the machine in the same run; a table at the end. Called
# by `make bench`.
#
#   BUILD=build       programs, and build/tests/bench_*
#   PYTHON=python3    for the tokenizers: one that has PyPI's tokenizers, else that part is skipped
#   SHARED=../shared  its texts and tokenizers
#   BENCH_7B=1        conversion at Mistral-7B size too (45 GB of disk)
#   BENCH_DIR=DIR     scratch folder (default BUILD/bench; 8 GB), removed at the end unless it was there before, or KEEP=1
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}
dir=${BENCH_DIR:-$build/bench}
[ -e "$dir" ] && KEEP=1 # what was there before is not ours to remove
mkdir -p "$dir"
[ "${KEEP:-}" = 1 ] || trap 'rm -rf "$dir"' EXIT

log=$dir/log
: >"$log"
part() { # heading
  printf '\n## %s\n' "$1" | tee -a "$log"
}
run() { # command: what it prints is for the table too; where it fails the script ends
  "$@" >"$dir/out.txt" 2>&1 || { cat "$dir/out.txt"; exit 1; }
  tee -a "$log" <"$dir/out.txt"
}
free_gb() { df -k "$dir" | awk 'NR == 2 {print int($4 / 1000000)}'; }
room() { # GB what
  [ "$(free_gb)" -ge "$1" ] && return
  echo "SKIP $2: needs $1 GB in $dir, $(free_gb) are free"
  return 1
}
config() { # hidden ff layers heads kv vocab: a Llama of that size
  cat <<EOF
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": $1, "intermediate_size": $2,
 "num_hidden_layers": $3, "num_attention_heads": $4, "num_key_value_heads": $5, "vocab_size": $6, "head_dim": $(($1 / $4)),
 "max_position_embeddings": 2048, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "hidden_act": "silu",
 "tie_word_embeddings": false, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2}
EOF
}
make_model() { # folder config
  rm -rf "$1"
  echo "$2" >"$dir/config.json"
  scripts/synth_checkpoint "$dir/config.json" -o "$1" >/dev/null
}

cpu="$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(nproc) processors"
day=$(date -u +%F)
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
echo "cpu: $cpu; date: $day; commit: $commit"
part "dots: from memory beside a plain read, and in cache"
run "$build/tests/bench_kernels"

part "choosing a token among 151,936 ids, one thread"
run "$build/tests/bench_sampler" avx2
run "$build/tests/bench_sampler"

part "tokenizers: encoding on one thread beside PyPI tokenizers, interleaved"
run "${PYTHON:-python3}" scripts/bench_tokenizers.py "$build/tpshard" "$build/tprun" "${SHARED:-../shared}"

if room 10 "TinyLlama size"; then
  make_model "$dir/tl" "$(config 2048 5632 22 32 4 32000)"
  part "conversion, TinyLlama size (2.2 GB bf16), tp 4, --mem 256M, against cp + sync"
  run scripts/bench_convert.py "$build/tpshard" "$dir/tl" "$dir/out" 5
  part "decode, TinyLlama size, batch 1, against a plain read of the same weights by the same threads, interleaved"
  for recipe in "none 1" "none 2" "none 4" "int8 1" "fp8 1"; do
    set -- $recipe
    "$build/tpshard" convert "$dir/tl" -o "$dir/b" --quant "$1" --tp "$2" --no-selftest --force -q
    run "$build/tests/bench_decode" "$dir/b"
  done
  part "start and prefill, TinyLlama size bf16, page cache warm, $(nproc) threads"
  "$build/tpshard" convert "$dir/tl" -o "$dir/b" --no-selftest --force -q
  cat "$dir"/b/* >/dev/null
  for n in 128 512; do
    run "$build/tprun" generate "$dir/b" --prompt-ids "$(seq -s, 1 "$n")" -n 2 --temp 0 --ids -v
  done
fi
if [ "${BENCH_7B:-}" = 1 ] && room 45 "Mistral-7B size"; then
  rm -rf "$dir/tl" "$dir/b" "$dir/out"
  make_model "$dir/m7" "$(config 4096 14336 32 32 8 32000)"
  part "conversion, Mistral-7B size (14.5 GB bf16), tp 4, --mem 256M, against cp + sync"
  run scripts/bench_convert.py "$build/tpshard" "$dir/m7" "$dir/out" 5
fi

printf '\n| %s, %s, commit %s | ratio | figures |\n|---|--:|---|\n' "$cpu" "$day" "$commit"
awk '
/^## conversion/ { what = substr($0, 4) }
/^median: .* times cp/ { sub(/^median: /, ""); split($0, f, / times cp, /); row(what, f[1], f[2]) }
/ dot .* read .* ratio/ && !/^scalar/ { row("dot " $1 " " $2 ", " $3 " " $4, $NF, $6 " beside " $9 " GB/s") }
/^[^ ]+ +[0-9.]+ MB\/s, PyPI/ { row("encode " $1, $8, $2 " beside " $5 " MB/s, ready in " $(NF - 1) " ms") }
/^decode / { sub(/:$/, "", $6); row("decode " $3 " " $4 " " $5 " " $6, $14, $8 " beside " $11 " GB/s, " $15 " tok/s") }
/^sampler / { split($0, f, ": "); row("choice, " f[1], "", f[2]) }
/^tprun: report: cold/ { sub(/^tprun: report: cold start: /, ""); row("start", "", $0) }
/^tprun: report: prefill/ { row("prefill, " $4 " tokens", "", $6 " tok/s") }
function row(what, ratio, figures) { printf "| %s | %s | %s |\n", what, ratio, figures }
' "$log"
