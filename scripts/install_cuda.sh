#!/bin/sh
# The CUDA compiler, for the GPU's kernels: the one on PATH, or else four wheels of one version from PyPI into
# build/cuda. Nothing else is built from PyPI, and nothing else needs this.
set -eu
cd "$(dirname "$0")/.."
version=${CUDA_VERSION:-13.0}
if command -v nvcc >/dev/null; then
  echo "nvcc is there: $(command -v nvcc)"
  exit 0
fi
python3 -m venv build/cuda
major=${version%%.*}
suffix=$([ "$major" -ge 13 ] && echo "" || echo "-cu$major")
build/cuda/bin/pip install --quiet "nvidia-cuda-nvcc$suffix==$version.*" "nvidia-nvvm$suffix==$version.*" \
  "nvidia-cuda-crt$suffix==$version.*" "nvidia-cuda-runtime$suffix==$version.*"
nvcc=$(find build/cuda -path '*/bin/nvcc' -type f | head -1)
[ -n "$nvcc" ] || { echo "the wheels hold no nvcc" >&2; exit 1; }
# a link would not do: it finds its parts beside the name that it was called by
printf '#!/bin/sh\nexec "%s" "$@"\n' "$(realpath "$nvcc")" >build/cuda/nvcc
chmod +x build/cuda/nvcc
echo "nvcc is build/cuda/nvcc: $(build/cuda/nvcc --version | tail -1)"
