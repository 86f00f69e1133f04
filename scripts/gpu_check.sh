#!/bin/bash
# Everything that wants a GPU, in one run: build, arithmetic and rates of the card, the CUDA tests on the hardware,
# compute-sanitizer, and a table of benchmarks. Needs nvcc, gcc and Python, no network. Each part prints as it ends, and
# a part that fails loses nothing of the others.
#
#   scripts/gpu_check.sh prepare   where there is a network: what the GPU's machine lacks, into build/carry/
#   scripts/gpu_check.sh           on the GPU's machine; MODELS="1b 4b 7b" (default), OUT=DIR for the log
set -u
cd "$(dirname "$0")/.."
carry=build/carry
libraries="libzstd-dev libzstd1 libxxhash-dev libxxhash0 libjansson-dev libjansson4 libpcre2-dev libpcre2-8-0 libutf8proc-dev
  libutf8proc2 libedit-dev libedit2 libbsd-dev libbsd0 libmd-dev libmd0 libncurses-dev libtinfo6 libcmocka-dev libcmocka0
  libhwloc-dev libhwloc15"

if [ "${1:-}" = prepare ]; then
  mkdir -p $carry
  (cd $carry && apt-get download $libraries) && ls $carry | wc -l
  exit
fi

out=${OUT:-build/gpu}
mkdir -p "$out"
exec > >(tee "$out/gpu_check.log") 2>&1
failed=0
part() { # name, then the command
  name=$1
  shift
  begin=$(date +%s)
  echo "== $name"
  if "$@"; then said=ok; else said=FAILED; failed=1; fi
  echo "== $name: $said, $(($(date +%s) - begin)) s"
}

root=$PWD/$carry/root
if ls $carry/*.deb >/dev/null 2>&1; then
  for f in $carry/*.deb; do dpkg -x "$f" "$root"; done
  multi=$root/usr/lib/$(gcc -print-multiarch)
  export LIBRARY_PATH=$multi:$root/lib/$(gcc -print-multiarch) C_INCLUDE_PATH=$root/usr/include:$root/usr/include/$(gcc -print-multiarch)
  export LD_LIBRARY_PATH=$LIBRARY_PATH${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
jobs=$(nproc)
models=${MODELS-1b 4b 7b}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/tpshard-gpu-XXXXXX")
trap 'rm -rf "$scratch"' EXIT

build() { make -j"$jobs" CUDA_ARCHS="$arch" all build/tests/bench_cuda build/tests/choose_gpu build/tests/bench_cuda_product build/tests/bench_cuda_reduce build/tests/cuda_libraries_gpu 2>&1 | grep -vE '^  (CC|LD|CXX) '; test -x build/tprun; }
card() { nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader && build/tprun info; }
probe() {
  nvcc -O3 -std=c++17 -arch=sm_"$arch" -fmad=false -ftz=true -prec-div=true -prec-sqrt=true -Xcompiler "-mfma -ffp-contract=off" \
    -o "$scratch/probe" tests/cuda/probe.cu && "$scratch/probe" >"$out/probe.txt"
  said=$?
  sed '1s/^/plain read, GB\/s: /' "$out/probe.txt"
  return $said
}
tests() { HARDWARE=1 SHARED="$scratch/none" python3 tests/e2e/test_cuda.py; }

small() { # a bundle of a small checkpoint
  build/tpshard convert tests/data/checkpoints/"$1" -o "$scratch/$1$2" -q --no-selftest --quant "${2:-none}" && echo "$scratch/$1$2"
}
sanitize() {
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not here"; return 0; }
  said=0
  for tool in memcheck synccheck racecheck; do # racecheck knows barriers, not flags: what it says is to be read
    for quant in none int8 int4; do
      bundle=$(small qwen2-bias "$quant" | tail -1)
      for ids in 3,4,5,6,7 "$(seq -s, 3 30)" "$(seq -s, 3 100)"; do # exact, fast
        compute-sanitizer --tool $tool --error-exitcode 1 build/tprun generate "$bundle" --prompt-ids "$ids" -n 3 --ids \
          --ignore-eos -q --device cuda >"$scratch/san" 2>&1 || { tail -20 "$scratch/san"; [ $tool = racecheck ] || said=1; }
        echo "$tool $quant: $(tail -1 "$scratch/san")"
      done
      rm -rf "$bundle"
    done
  done
  return $said
}

config() { # sizes of a model that people run
  case $1 in
  1b) m=llama a=LlamaForCausalLM h=2048 l=22 n=32 k=4 d=64 f=5632 v=32000 t=false ;;
  4b) m=qwen3 a=Qwen3ForCausalLM h=2560 l=36 n=32 k=8 d=128 f=9728 v=151936 t=true ;;
  7b) m=mistral a=MistralForCausalLM h=4096 l=32 n=32 k=8 d=128 f=14336 v=32768 t=false ;;
  esac
  printf '{"model_type":"%s","architectures":["%s"],"hidden_size":%d,"num_hidden_layers":%d,"num_attention_heads":%d,"num_key_value_heads":%d,"head_dim":%d,"intermediate_size":%d,"vocab_size":%d,"tie_word_embeddings":%s,"rms_norm_eps":1e-5,"rope_theta":10000.0,"max_position_embeddings":4096,"hidden_act":"silu","torch_dtype":"bfloat16","bos_token_id":1,"eos_token_id":2}\n' \
    $m $a $h $l $n $k $d $f $v $t
}
bare() { # the products of 2,048 tokens as cuBLAS multiplies them, by PyTorch where there is one
  python3 - $h $l $n $k $d $f <<'END' || echo "no PyTorch: bare products not measured"
import sys, time
import torch
h, l, n, k, d, f = map(int, sys.argv[1:])
shapes = [(n * d, h), (k * d, h), (k * d, h), (h, n * d), (f, h), (f, h), (h, f)]
w = [torch.randn(s, device="cuda", dtype=torch.bfloat16) for s in shapes]
x = [torch.randn(2048, s[1], device="cuda", dtype=torch.bfloat16) for s in shapes]
times = []
for _ in range(5):
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(l):
        for a, b in zip(x, w):
            a @ b.t()
    torch.cuda.synchronize()
    times.append((time.perf_counter() - begin) * 1e3)
print("bare products of 2048 tokens: %.2f ms; a prompt of as many may take 1.25 of it" % sorted(times)[2])
END
}
shared() { # ranks that share the GPU beside one: decode of one row
  for tp in 1 2 4; do
    build/tpshard convert "$scratch/model" -o "$scratch/bundle" -q --no-selftest --tp $tp &&
      build/tests/bench_cuda "$scratch/bundle" | grep "rows  1:" | sed "s/^/$1, $tp ranks on the GPU: /" || return 1
    rm -rf "$scratch/bundle"
  done
}
bench() { # one model: decode of every format beside the plain read, then from exec to the first token
  read=$(head -1 "$out/probe.txt" 2>/dev/null || echo 0)
  config "$1" >"$scratch/config.json" # and h, l, n, k, d, f
  scripts/synth_checkpoint "$scratch/config.json" -o "$scratch/model" >/dev/null || return 1
  for quant in none int8 $([ "$1" = 1b ] && echo fp8) int4; do
    build/tpshard convert "$scratch/model" -o "$scratch/bundle" -q --no-selftest --quant $quant &&
      build/tests/bench_cuda "$scratch/bundle" "$read" | sed "s/^/$1 /" || return 1
    if [ $quant = none ]; then
      for _ in 1 2 3; do
        build/tprun generate "$scratch/bundle" --prompt-ids 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26 -n 2 \
          --ids --ignore-eos --device cuda 2>&1 >/dev/null | grep "cold start" | sed "s/^/$1 /"
      done
    fi
    rm -rf "$scratch/bundle"
  done
  bare | sed "s/^/$1 /"
  [ "$1" = 4b ] || shared "$1" || return 1
  rm -rf "$scratch/model"
}

part build build
part card card
part probe probe
part tests tests
part reduce build/tests/bench_cuda_reduce
for m in $models; do part "bench $m" bench "$m"; done
part sanitizer sanitize
part products build/tests/bench_cuda_product
echo "== all: $([ $failed = 0 ] && echo ok || echo FAILED)"
exit $failed
