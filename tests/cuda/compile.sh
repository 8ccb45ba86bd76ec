#!/bin/sh
# compile.sh NVCC SOURCE_FOLDER KERNEL.cu OBJECT ARCHITECTURE...: nvcc compiles the kernels for each architecture (80, 90...)
# without a warning, and no kernel keeps registers in memory.
set -eu
nvcc=$1 source=$2 kernel=$3 object=$4
shift 4
targets=""
for architecture in "$@"; do targets="$targets -gencode arch=compute_$architecture,code=sm_$architecture"; done
# shellcheck disable=SC2086  # several words
"$nvcc" -std=c++20 -O3 -fmad=false -I"$source" -Werror all-warnings -Xcompiler -Wall,-Wextra -Xptxas -v $targets \
  -c "$kernel" -o "$object" > "$object.log" 2>&1 || { cat "$object.log"; exit 1; }
awk '
  /Compiling entry function/ { split($0, words, "\047"); kernel = words[2]; target = words[4]; kernels++ }
  /bytes spill stores/ && !/ 0 bytes spill stores/ { print target ": " kernel ":" $0; bad = 1 }
  END { print kernels + 0 " kernels"; exit bad }' "$object.log"
