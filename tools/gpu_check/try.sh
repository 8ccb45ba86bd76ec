#!/bin/sh
# try.sh GPU_CHECK PYTHON: its steps on the emulated card, as far as they are quick there, and what it says without a
# card. PYTHON may have PyTorch.
set -eu
check=$1 python=$2
torch_side=$(cd "$(dirname "$0")" && pwd)/torch_side.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

"$check" rates cuda-emulated > rates
test "$(grep -c '^figure .*Tflop/s$' rates)" -ge 16
grep -q '^figure linear_8bit.BF16.I8.* Tflop/s$' rates
"$check" copies cuda-emulated | grep -q '^figure copy.to_device .* GB/s$'
"$check" bench cuda-emulated shape=mini layers=2 size='64*64' blocks=1 steps=1 > bench
grep -q '^figure frames_per_second ' bench
predicted=$(sed -n 's/^figure predicted_peak \(.*\) bytes$/\1/p' bench)
charged=$(sed -n 's/^figure charged_peak \(.*\) bytes$/\1/p' bench)
test -n "$predicted" && test "$predicted" = "$charged"

"$check" ranks cuda-emulated > ranks
grep -q '^2 blocks of 2 ranks are those of one, to the bit$' ranks
grep -q '^exchanges over host memory: ' ranks
"$check" all --device cuda:99 --only ranks --results no_card.json > log
grep -q '"not_run": "no card: cuda:99 ' no_card.json

# PyTorch has our names for the same work, so that the ratio comes out. Without it the step says so.
some() { "$check" all --device cuda-emulated --torch_side "$torch_side" "$@" > log; }
if "$python" -c 'import torch' 2> /dev/null; then
  "$python" "$torch_side" rates --tiny > torch_rates
  for name in $(sed -n 's/^figure \([^ ]*\)\/.*/\1/p' torch_rates); do grep -q "^figure $name " rates; done
  test "$(grep -c '^figure conv.BF16.*/channels_last ' torch_rates)" = 3
  some --python "$python" --only layers,torch.layers --results torch.json
  python3 - << 'CHECK'
import json
results = json.load(open("torch.json"))
compared = results["against_torch"]["layer.BF16.64x64"]
figures = results["steps"]["torch.layers"]["figures"]
times = [value for key, value in figures.items() if key.startswith("layer.BF16.64x64/")]
assert compared["torch"] == min(times), compared
assert abs(compared["ratio"] - compared["torch"] / compared["ours"]) < 1e-9, compared
CHECK
fi
some --python /nowhere/python --only card,torch --results no_torch.json
test "$(grep -c '"not_run": "no torch: /nowhere/python ' no_torch.json)" = 2
grep -q '"card": "emulated device, ' no_torch.json

# Stand-ins for compute-sanitizer: one that finds nothing, one that does.
mkdir bin
printf '#!/bin/sh\necho "$@"\necho "========= ERROR SUMMARY: 0 errors"\n' > bin/compute-sanitizer
chmod +x bin/compute-sanitizer
PATH="$work/bin:$PATH" some --only sanitizer --results clean.json
for tool in memcheck racecheck synccheck initcheck; do grep -q -- "--tool $tool .* ops cuda-emulated$" log; done
test "$(grep -c '"summary": ".* 0 errors"' clean.json)" = 4
echo 'exit 9' >> bin/compute-sanitizer
if PATH="$work/bin:$PATH" some --only sanitizer.memcheck --results found.json; then exit 1; fi
grep -q '"failed_steps": 1' found.json

# Results are there even if the first step fails.
if "$check" all --device cuda:99 --results none.json > log; then exit 1; fi
grep -q '"exit_code": 1' none.json
# A step that takes too long is stopped, and the others are named. It did nothing wrong.
"$check" all --device cuda-emulated --only ops,copies --seconds 6 --results late.json > log
grep -q '"cut_off": true' late.json
grep -A 1 '"skipped_for_time"' late.json | grep -q '"copies"'
