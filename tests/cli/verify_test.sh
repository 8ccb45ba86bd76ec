#!/bin/sh
# verify_test.sh PROGRAM SOURCE: `info --verify` holds files to a manifest, and the mini model to its own.
set -eu
program=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$1"; exit 1; }
"$program" info --verify "$2/models/mini/SHA256SUMS" || fail "the mini model is not what its manifest says"
cd "$work"
mkdir sub
echo one > a; echo two > sub/b
sha256sum a sub/b > SHA256SUMS
(cd / && "$program" info --verify "$work/SHA256SUMS") | grep -q "2 of 2" || fail "paths are of the manifest's folder"
echo three > a; rm sub/b
code=0; said=$("$program" info --verify SHA256SUMS) || code=$?
[ "$code" = 1 ] || fail "bad files end with 1, not $code"
[ "$(echo "$said" | grep -c "fetch it again")" = 2 ] || fail "a line for each bad file: $said"
sum=$(sha256sum a | cut -d' ' -f1)
for path in ../a /etc/passwd sub/../../a; do
  echo "$sum  $path" > SHA256SUMS
  "$program" info --verify SHA256SUMS > said 2>&1 && fail "$path was taken"
  grep -q "leads out of the folder" said || fail "$path: $(cat said)"
done
echo words > SHA256SUMS
"$program" info --verify SHA256SUMS > said 2>&1 && fail "a line that is none was taken"
exit 0
