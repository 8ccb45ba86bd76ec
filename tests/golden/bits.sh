#!/bin/sh
# bits.sh GOLDEN_CHECK DTYPE FOLDER...: every tensor on the test device is bit-identical to the reference backend.
set -eu
check=$1 dtype=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for device in reference test; do
  "$check" --device $device --dtype "$dtype" --bits "$@" | grep -v '^==' > "$work/$device"
done
grep -q ' bits ' "$work/test"
diff "$work/reference" "$work/test"
tail -1 "$work/test"
