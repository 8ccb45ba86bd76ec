#!/bin/sh
# callgrind.sh PROGRAM COMPILER RECORD [--update]: instructions of one_mini_block() in PROGRAM (bench/mini_block.cc) on
# one thread with the AVX2 kernels, which valgrind knows on every machine. Compared with the line of this COMPILER in
# RECORD: more than 5 % above it fails. Another compiler's count is printed only. 77: valgrind is not there.
set -eu
program=$1 compiler=$2 record=$3 update=${4:-}
if ! command -v valgrind > /dev/null; then
  echo "skipped: valgrind is not installed (scripts/install-deps bench/packages.txt installs it)"
  exit 77
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
LIVEAVATAR_ISA=avx2 valgrind --tool=callgrind --collect-atstart=no --toggle-collect=one_mini_block \
  --callgrind-out-file=/dev/null "$program" 2> "$log" || { cat "$log"; exit 1; }
count=$(sed -n 's/^==[0-9]*== Collected : \([0-9]*\)$/\1/p' "$log")
[ -n "$count" ] && [ "$count" -gt 0 ] || { echo "callgrind counted nothing:"; cat "$log"; exit 1; }
echo "callgrind.mini_block_instructions $count"
if [ "$update" = --update ]; then
  { grep -v "^$compiler " "$record"; echo "$compiler $count"; } > "$record.new" && mv "$record.new" "$record"
  echo "$record: updated"
  exit 0
fi
recorded=$(sed -n "s/^$compiler \([0-9]*\)\$/\1/p" "$record")
if [ -z "$recorded" ]; then
  echo "not compared: $record has no line of $compiler"
  exit 0
fi
permille=$(( (count - recorded) * 1000 / recorded ))
echo "recorded $recorded with $compiler: $permille per mille more"
if [ "$permille" -gt 50 ]; then
  echo "more than 5 % above what is recorded. If that is meant: bench/callgrind.sh $program '$compiler' $record --update"
  exit 1
fi
[ "$permille" -ge -50 ] || echo "more than 5 % below: record the gain with the same command and --update"
