#!/bin/sh
# run.sh GOLDEN_CHECK GOLDENS_DIR DEVICE DTYPE [ISA]: 77 (skipped) where the CPU lacks the ISA, else golden_check's own exit code.
check=$1 dir=$2 device=$3 dtype=$4
if [ -n "${5-}" ]; then
  LIVEAVATAR_ISA=$5
  export LIVEAVATAR_ISA
fi
output=$("$check" --device "$device" --dtype "$dtype" "$dir"/*/ 2>&1)
code=$?
case $output in
*"this CPU has "*) echo "$output"; exit 77 ;;
esac
echo "$output" | grep -v '^ok'
exit $code
