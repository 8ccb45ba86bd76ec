#!/bin/sh
# scripts_test.sh: ranks.sh and bits.sh over a stand-in of golden_check fail wherever it ends otherwise than before,
# though its lines are the same.
set -eu
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/check" << 'CHECK'
#!/bin/sh
echo "== job"
echo "ok  latents bits 1234"
case "$*" in
*"$WHERE"*) exit "$CODE" ;;
esac
exit "$BEFORE"
CHECK
chmod +x "$work/check"

# expect OUTCOME SCRIPT: with BEFORE, WHERE and CODE in the environment.
expect() {
  outcome=passes
  sh "$here/$2" "$work/check" bf16 folder > "$work/output" || outcome=fails
  [ "$outcome" = "$1" ] || { echo "$2 $outcome: code $CODE where $WHERE, else $BEFORE"; cat "$work/output"; exit 1; }
}
export BEFORE WHERE CODE
for script in ranks.sh bits.sh; do
  case $script in
  ranks.sh) second='--devices cpu:3 --enable_vae_parallel --dit_fsdp' ;;
  *) second='--device test' ;;
  esac
  BEFORE=0 WHERE=none CODE=0 expect passes $script
  BEFORE=1 WHERE=none CODE=0 expect passes $script  # outside the limit on both
  BEFORE=139 WHERE=none CODE=0 expect fails $script
  for CODE in 1 3 139; do
    BEFORE=0 WHERE=$second expect fails $script
  done
  BEFORE=1 WHERE=$second CODE=0 expect fails $script
done
