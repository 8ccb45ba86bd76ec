#!/bin/sh
# Remakes assets/demo: needs g++, pkg-config, libcairo2-dev and espeak-ng.
set -eu
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
g++ -std=c++20 -O2 -Wall -Wextra -o "$scratch/portrait" tools/demo_assets/portrait.cc $(pkg-config --cflags --libs cairo)
mkdir -p assets/demo
"$scratch/portrait" assets/demo/portrait.png
espeak-ng -v en-us+f3 -s 150 -w assets/demo/voice.wav \
  "Hello! I was drawn by a small program, and a small program lent me this voice. Give me your own, and I will gladly talk for as long as you like."
