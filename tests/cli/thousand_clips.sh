#!/bin/sh
# thousand_clips.sh LIVEAVATAR SOURCE_DIR [CLIPS]: makes that many clips of the smallest size and compares the resident memory after the
# last with that after clip 10: at most 1 % or 4 MiB more.
set -eu
program=$1 source=$2 clips=${3:-1000}
work=$(mktemp -d)
trap 'kill $pid 2> /dev/null || true; rm -rf "$work"' EXIT
seconds=$((clips * 48 / 25 + 1))
ffmpeg -v error -f lavfi -i "sine=frequency=200:sample_rate=16000:duration=$seconds" -af "tremolo=f=3:d=0.8" "$work/voice.wav"
"$program" generate --ckpt_dir "$source/models/mini" --image "$source/assets/demo/portrait.png" --audio "$work/voice.wav" --prompt test \
  --size "64*64" --num_clip "$clips" --save_file "$work/out.mp4" > "$work/log" 2>&1 &
pid=$!
early=0 last=0
while kill -0 $pid 2> /dev/null; do
  kib=$(awk '/^VmRSS/ {print $2}' "/proc/$pid/status" 2> /dev/null || true)
  block=$(grep -o 'block [0-9]*' "$work/log" | tail -1 | cut -d' ' -f2)
  [ -n "$kib" ] && last=$kib
  if [ "$early" = 0 ] && [ "${block:-0}" -ge 40 ]; then early=$last; fi
  sleep 0.2
done
wait $pid
tail -1 "$work/log"
frames=$(ffprobe -v error -count_packets -select_streams v -show_entries stream=nb_read_packets -of csv=p=0 "$work/out.mp4")
echo "frames $frames, resident after clip 10: $early KiB, at the end: $last KiB"
[ "$early" -gt 0 ] && [ "$frames" -eq $((clips * 48)) ]
allowed=$((early / 100)); [ "$allowed" -ge 4096 ] || allowed=4096
[ "$last" -le $((early + allowed)) ]
