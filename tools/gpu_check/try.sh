#!/bin/sh
# try.sh GPU_CHECK: its steps on the emulated card, as far as they are quick there, and what it says without a card.
set -eu
check=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

"$check" rates cuda-emulated > rates
test "$(grep -c '^figure .*Tflop/s$' rates)" -ge 12
"$check" copies cuda-emulated | grep -q '^figure copy.to_device .* GB/s$'
"$check" bench cuda-emulated shape=mini layers=2 size='64*64' blocks=1 steps=1 > bench
grep -q '^figure frames_per_second ' bench
predicted=$(sed -n 's/^figure predicted_peak \(.*\) bytes$/\1/p' bench)
charged=$(sed -n 's/^figure charged_peak \(.*\) bytes$/\1/p' bench)
test -n "$predicted" && test "$predicted" = "$charged"

# Results are there even if the first step fails.
if "$check" all --device cuda:99 --results none.json > log; then exit 1; fi
grep -q '"exit_code": 1' none.json
# A step that takes too long is stopped, and the others are named.
if "$check" all --device cuda-emulated --seconds 6 --results late.json --goldens /nowhere > log; then exit 1; fi
grep -q '"skipped_for_time"' late.json
