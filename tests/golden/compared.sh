# shellcheck shell=sh disable=SC2034  # code is for the script that reads this
# For scripts that compare two runs of golden_check. Sets `code` to its exit code: 1 where a tensor is outside its limit,
# more than that where it crashed.

# lines_of FILE GOLDEN_CHECK ARGUMENTS...: the lines of its tensors.
lines_of() {
  lines=$1
  shift
  code=0
  "$@" < /dev/null > "$lines.all" || code=$?
  [ "$code" -le 1 ] || { echo "exit code $code: $*"; exit 1; }
  grep -v '^==' "$lines.all" > "$lines"
}
