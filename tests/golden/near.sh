#!/bin/sh
# near.sh GOLDEN_CHECK TYPE FOLDER...: with weights, keys and values in TYPE (int8, fp8) the emulated card is as far from
# the original as the CPU is. The goldens' own limits are those of wider types.
set -eu
check=$1 type=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for device in cpu cuda-emulated; do
  "$check" --device $device --dtype bf16 --weights_dtype "$type" --kv_dtype "$type" "$@" |
    awk '/  max .*  rms / { for (i = 1; i <= NF; ++i) if ($i == "rms") print $2, $(i + 1) }' > "$work/$device"
done
paste -d ' ' "$work/cpu" "$work/cuda-emulated" | awk '
  $1 != $3 { print "other tensors: " $0; exit bad = 1 }
  $4 + 0 > 1.1 * $2 + 1e-4 { print "far from the CPU: " $0; bad = 1 }
  END { if (NR == 0) { print "nothing was compared"; bad = 1 } else print NR " tensors compared"; exit bad }'
