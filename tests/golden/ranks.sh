#!/bin/sh
# ranks.sh GOLDEN_CHECK DTYPE FOLDER...: whole jobs on several ranks, each tensor bit-identical to one device.
set -eu
# shellcheck source=tests/golden/compared.sh
. "$(dirname "$0")/compared.sh"
check=$1 dtype=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
lines_of "$work/one" "$check" --device cpu --dtype "$dtype" --bits "$@"
grep -q ' bits ' "$work/one"
want=$code
while read -r mode; do
  # shellcheck disable=SC2086  # several words
  lines_of "$work/many" "$check" --device cpu --dtype "$dtype" --bits $mode "$@"
  diff "$work/one" "$work/many" || { echo "not the bits of one device: $mode"; exit 1; }
  [ "$code" = "$want" ] || { echo "exit code $code, on one device $want: $mode"; exit 1; }
done << 'MODES'
--devices cpu:2 --ulysses_size 2
--devices cpu:2
--devices cpu:3
--devices cpu:4 --ulysses_size 2
--devices cpu:5 --enable_vae_parallel
--devices cpu:3 --enable_vae_parallel --dit_fsdp
--devices cpu:2 --ulysses_size 2 --dit_fsdp
MODES
tail -1 "$work/one"
