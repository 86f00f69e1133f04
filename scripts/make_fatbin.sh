#!/bin/sh
# The GPU's kernels as one module: make_fatbin.sh NVCC OUT ARCHS, of the architectures those that this nvcc knows, and PTX of
# the newest for GPUs to come.
set -eu
nvcc=$1 out=$2 codes= newest=
for arch in $3; do
  if "$nvcc" --list-gpu-arch | grep -qx "compute_$arch"; then
    codes="$codes -gencode arch=compute_$arch,code=sm_$arch"
    newest=$arch
  else
    echo "$nvcc does not know sm_$arch: it is left out" >&2
  fi
done
flags="-std=c++17 -O3 -fmad=false -ftz=true -prec-div=true -prec-sqrt=true --threads 0"
"$nvcc" --help | grep -q compress-mode && flags="$flags -compress-mode=size"
# shellcheck disable=SC2086 # words
[ -n "$newest" ] && "$nvcc" $flags $codes -gencode "arch=compute_$newest,code=compute_$newest" -fatbin -o "$out" kernels/cuda/kernels.cu || {
  rm -f "$out"
  echo "$nvcc cannot make the GPU's kernels; make NVCC= builds all else" >&2
  exit 1
}
