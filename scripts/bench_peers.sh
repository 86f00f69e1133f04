#!/bin/sh
# bench_peers.sh DIR: prompts and decoding beside llama.cpp, a model of TinyLlama-1.1B's size and random weights, both programs in
# turns in one run; medians, and the ratio of each.
#
#   DIR              folder with llama-bench and llama-quantize
#   BUILD=build      our programs
#   PYTHON=python3   one with PyPI's numpy and gguf, which write the peer's file
#   BENCH_DIR=DIR    scratch folder (default BUILD/peers; 9 GB), removed at the end unless it was there before, or KEEP=1
#   ROUNDS=5         of each
set -eu
[ $# = 1 ] || { sed -n '2,10p' "$0"; exit 2; }
peer=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
build=${BUILD:-build}
dir=${BENCH_DIR:-$build/peers}
python=${PYTHON:-python3}
[ -e "$dir" ] && KEEP=1 # what was there before is not ours to remove
mkdir -p "$dir"
[ "${KEEP:-}" = 1 ] || trap 'rm -rf "$dir"' EXIT

cat >"$dir/config.json" <<'C'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632,
 "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000, "head_dim": 64,
 "max_position_embeddings": 2048, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "hidden_act": "silu",
 "tie_word_embeddings": false, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2}
C
[ -d "$dir/model" ] || scripts/synth_checkpoint "$dir/config.json" -o "$dir/model" >/dev/null
[ -f "$dir/bf16.gguf" ] || "$python" scripts/make_gguf.py "$dir/model" "$dir/bf16.gguf"
for pair in none:bf16 int8:q8_0 int4:q4_0; do
  ours=${pair%:*} theirs=${pair#*:}
  [ -d "$dir/$ours" ] || "$build/tpshard" convert "$dir/model" -o "$dir/$ours" --quant "$ours" --no-selftest -q
  [ -f "$dir/$theirs.gguf" ] || "$peer/llama-quantize" "$dir/bf16.gguf" "$dir/$theirs.gguf" "$theirs" >/dev/null 2>&1
done
"$python" scripts/bench_peers.py "$build/tprun" "$peer/llama-bench" "$dir" "${ROUNDS:-5}"
