#!/bin/sh
# The installed program runs without the source tree: install.sh CMAKE BUILD_DIR
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$1" --install "$2" --prefix "$folder/installed" > "$folder/log" || { cat "$folder/log"; exit 1; }
cd "$folder"
installed/bin/liveavatar --help > /dev/null
installed/bin/liveavatar --version
for file in models/mini assets/demo/portrait.png assets/demo/voice.wav; do
  test -e "installed/share/liveavatar/$file" || { echo "$file was not installed"; exit 1; }
done
# Without --ckpt_dir: the installed model and demo.
installed/bin/liveavatar generate --quiet --server_port 1 --size "64*64" --num_clip 1 --infer_frames 12 --save_file a.mp4
test -s a.mp4
