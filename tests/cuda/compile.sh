#!/bin/sh
# compile.sh KERNEL.cu FOLDER ARCHITECTURES NVCC FLAGS...: nvcc compiles the kernels for each of "80 90 ..." without a
# warning, no kernel keeps registers in memory, and the machine code is what sass.py expects. Cubins go to FOLDER.
set -eu
kernel=$1 folder=$2 architectures=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
bad=0
for architecture in $architectures; do
  cubin=$folder/$(basename "$kernel" .cu).$architecture.cubin
  "$@" -Werror all-warnings -Xptxas -v -cubin -arch="sm_$architecture" "$kernel" -o "$cubin" > "$cubin.log" 2>&1 ||
    { cat "$cubin.log"; exit 1; }
  awk '
    /Compiling entry function/ { split($0, words, "\047"); kernel = words[2]; target = words[4] }
    /bytes spill stores/ && !/ 0 bytes spill stores/ { print target ": " kernel ":" $0; bad = 1 }
    END { exit bad }' "$cubin.log" || bad=1
  python3 "$here/sass.py" "$architecture" "$cubin" || bad=1
done
exit $bad
