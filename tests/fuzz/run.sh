#!/bin/sh
# run.sh PROGRAM TARGET GOLDEN_FILES SECONDS: libFuzzer over a copy of the target's seeds; what it finds stays in ./crash-*.
set -eu
program=$1 target=$2 files=$3 seconds=$4
corpus=$(mktemp -d)
trap 'rm -rf "$corpus"' EXIT
case $target in
safetensors) seeds="$files/dit $files/umt5 $files/bad $files/vae $files/wav2vec2" ;;
gguf) seeds="$files/gguf $files/umt5" ;;
lora) seeds="$files/lora $files/bad" ;;
config) seeds="models/mini tests/goldens/generate/ckpt" ;;
torch) seeds="tests/goldens/vae_pth models/mini/models_t5_umt5-xxl-enc-bf16.pth" ;;
packed | snapshot | sound | image | serve | http) seeds="tests/fuzz/seeds/$target" ;;
tokenizer) seeds="tests/goldens/tokenizer" ;;
*) echo "run.sh: unknown target $target" >&2; exit 2 ;;
esac
n=0
find $seeds -type f -size -1024k | while read -r seed; do
  n=$((n + 1))
  cp "$seed" "$corpus/seed-$n"
done
"$program" -max_total_time="$seconds" -max_len=1048576 -rss_limit_mb=4096 -timeout=20 -print_final_stats=1 "$corpus"
