#!/bin/sh
# short.sh PYTHON PROGRAM FOLDER: tools/soak with a video of 20 minutes, which takes 3, and a server of 15.
set -eu
python=$1 program=$2 folder=$3
command -v ffmpeg > /dev/null || exit 77
tools=$(dirname "$0")/../../tools/soak
"$python" "$tools/video.py" "$program" --seconds 1200 --every 2 --folder "$folder"
"$python" "$tools/server.py" "$program" --seconds 900 --every 5 --folder "$folder"
"$python" "$tools/report.py" "$folder"
