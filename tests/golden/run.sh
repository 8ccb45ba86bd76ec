#!/bin/sh
# run.sh GOLDEN_CHECK DEVICE DTYPE ISA FOLDER...: 77 (skipped) where the CPU lacks the ISA ("": any), else golden_check's own exit code.
check=$1 device=$2 dtype=$3
if [ -n "$4" ]; then
  LIVEAVATAR_ISA=$4
  export LIVEAVATAR_ISA
fi
shift 4
output=$("$check" --device "$device" --dtype "$dtype" "$@" 2>&1)
code=$?
case $output in
*"this CPU has "*) echo "$output"; exit 77 ;;
esac
echo "$output" | grep -v '^ok'
exit $code
