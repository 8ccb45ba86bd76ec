#!/bin/sh
# opens.sh PROGRAM SOURCE_DIR: how often one `generate` opens each of its inputs, by strace. An image or a pose video
# once; a voice twice: for the model, and for the video's audio track; a checkpoint's file twice: to see what it is, and to
# read it; a config.json once more, so that no output replaces it.
set -eu
program=$1 source=$2
command -v strace > /dev/null || { echo "strace is not here"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
strace -o "$work/probe" true 2> /dev/null || { echo "strace may not trace here"; exit 77; }
cp -r "$source/models/mini" "$work/model"
cp "$source/assets/demo/portrait.png" "$work/portrait.png"
cp "$source/assets/demo/voice.wav" "$work/left.wav"
cp "$source/assets/demo/voice.wav" "$work/right.wav"
cp "$source/tests/cases/talk.mp4" "$work/pose.mp4"
cp "$source/tests/cases/lora_kohya.safetensors" "$work/adapter.safetensors"
ffmpeg -v error -f lavfi -i color=white:size=64x64 -frames:v 1 "$work/mask1.png"
ffmpeg -v error -f lavfi -i color=white:size=64x64 -frames:v 1 "$work/mask2.png"
mkdir "$work/paging"

# trace NAME ARGUMENTS...: runs a job; fails where a file is opened more often than it may be.
trace() {
  name=$1
  shift
  strace -f -e trace=open,openat -o "$work/trace" "$program" generate --quiet --ckpt_dir "$work/model" \
    --image "$work/portrait.png" --prompt "a test" --size "64*64" --num_clip 1 --infer_frames 12 \
    --save_file "$work/out.mp4" "$@"
  grep -v ENOENT "$work/trace" | grep -o "\"$work/[^\"]*\"" | tr -d '"' | sort | uniq -c > "$work/counts"
  awk -v name="$name" -v work="$work/" '
    { path = substr($2, length(work) + 1); most = 2 }
    path ~ /\.png$|^pose/ && path !~ /^mask/ { most = 1 }
    path ~ /config\.json$/ { most = 3 }
    path ~ /^paging(\/|$)|^out|\/$/ { next }  # no inputs
    $1 > most { printf "%s: %s is opened %d times, at most %d are needed\n", name, path, $1, most; bad = 1 }
    path == "portrait.png" || path == "left.wav" { ++seen }
    END { if (seen < 2) { print name ": portrait and voice are not in the trace"; bad = 1 } exit bad }' "$work/counts"
  echo "$name: $(awk '{ sum += $1 } END { print sum }' "$work/counts") opens of $(wc -l < "$work/counts") files"
}

trace plain --audio "$work/left.wav"
trace budget --audio "$work/left.wav" --memory_budget 1GiB
trace paged --audio "$work/left.wav" --memory_budget 72MiB --paging_dir "$work/paging"
trace adapter --audio "$work/left.wav" --lora_path_dmd "$work/adapter.safetensors"
trace speakers --audio "$work/left.wav+$work/right.wav" --mask "$work/mask1.png" --mask "$work/mask2.png"
trace pose --audio "$work/left.wav" --pose_video "$work/pose.mp4"
