#!/bin/sh
# shared_outputs.sh LIVEAVATAR SOURCE_DIR [ROUNDS]: in every round two jobs write one video at once (one makes it whole, the other
# makes it again or is refused), two converts write one file, and ten jobs start with one fresh paging folder (all succeed).
set -eu
program=$1 source=$2 rounds=${3:-50}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mini=$source/models/mini
job() {
  "$program" generate --quiet --ckpt_dir "$mini" --image "$source/assets/demo/portrait.png" --audio "$source/assets/demo/voice.wav" \
    --prompt test --size "64*64" --num_clip 1 --infer_frames 12 --threads 1 "$@"
}
fail() { echo "round $round: $1"; cat "$work"/log.*; exit 1; }
job --save_file "$work/want.mp4" --report "$work/want.json"
"$program" convert --quiet --ckpt_dir "$mini" --out "$work/want.packed"
whole=$(sed -n 's/.*"predicted_peak_bytes": \([0-9]*\),/\1/p' "$work/want.json")
budget=$((whole - 1048576))

# Both done, or one of them refused with its line.
check_pair() {
  [ "$1" = 0 ] || [ "$2" = 0 ] || fail "neither wrote $3"
  [ "$1$2" = 00 ] || grep -q "another job writes" "$work"/log.a "$work"/log.b || fail "no clear refusal for $3"
  cmp -s "$3" "$4" || fail "$3 is mixed"
}

round=1
while [ "$round" -le "$rounds" ]; do
  job --save_file "$work/one.mp4" > "$work/log.a" 2>&1 & a=$!
  job --save_file "$work/one.mp4" > "$work/log.b" 2>&1 & b=$!
  code_a=0 code_b=0; wait $a || code_a=$?; wait $b || code_b=$?
  check_pair $code_a $code_b "$work/one.mp4" "$work/want.mp4"
  "$program" convert --quiet --ckpt_dir "$mini" --out "$work/one.packed" > "$work/log.a" 2>&1 & a=$!
  "$program" convert --quiet --ckpt_dir "$mini" --out "$work/one.packed" > "$work/log.b" 2>&1 & b=$!
  code_a=0 code_b=0; wait $a || code_a=$?; wait $b || code_b=$?
  check_pair $code_a $code_b "$work/one.packed" "$work/want.packed"

  mkdir "$work/pages"
  pids=
  for i in 0 1 2 3 4 5 6 7 8 9; do
    job --memory_budget $budget --paging_dir "$work/pages" --save_file "$work/p$i.mp4" > "$work/log.$i" 2>&1 & pids="$pids $!"
  done
  for pid in $pids; do wait "$pid" || fail "a job with a fresh paging folder failed"; done
  for i in 0 1 2 3 4 5 6 7 8 9; do cmp -s "$work/p$i.mp4" "$work/want.mp4" || fail "p$i.mp4 is another video"; done
  [ "$(ls -A "$work/pages" | wc -l)" = 1 ] || fail "something is left in the paging folder"
  rm -r "$work/pages" "$work/one.mp4" "$work/one.packed"
  round=$((round + 1))
done
echo "$rounds rounds"
