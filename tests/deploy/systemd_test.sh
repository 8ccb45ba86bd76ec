#!/bin/sh
# systemd_test.sh FOLDER: systemd takes the unit of FOLDER, and its exposure stays small. Skipped (77) without systemd.
set -eu
command -v systemd-analyze > /dev/null || { echo "systemd-analyze is missing: apt-get install systemd"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$1/liveavatar.service" "$1/liveavatar.socket" "$work"
sed -i 's|/usr/local/bin/liveavatar|/bin/true|' "$work/liveavatar.service"  # verify asks for a program that is there
said=$(systemd-analyze verify "$work/liveavatar.service" 2>&1 | grep -F "$work" || true)
[ -z "$said" ] || { echo "$said"; exit 1; }
systemd-analyze security --offline=yes --threshold=20 "$work/liveavatar.service" > "$work/said" || { cat "$work/said"; exit 1; }
tail -1 "$work/said"
