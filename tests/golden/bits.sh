#!/bin/sh
# bits.sh GOLDEN_CHECK DTYPE FOLDER...: every tensor on the test device is bit-identical to the reference backend.
set -eu
# shellcheck source=tests/golden/compared.sh
. "$(dirname "$0")/compared.sh"
check=$1 dtype=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
lines_of "$work/reference" "$check" --device reference --dtype "$dtype" --bits "$@"
want=$code
lines_of "$work/test" "$check" --device test --dtype "$dtype" --bits "$@"
grep -q ' bits ' "$work/test"
diff "$work/reference" "$work/test"
[ "$code" = "$want" ] || { echo "exit code $code, on the reference backend $want"; exit 1; }
tail -1 "$work/test"
