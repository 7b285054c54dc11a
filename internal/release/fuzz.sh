#!/usr/bin/env bash
# Runs every fuzz target of the module for the time given, one after the other.
set -euo pipefail
time=$1 ran=0
while IFS=: read -r file line; do
	target=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/' <<<"$line")
	echo "== $target in $(dirname "$file") for $time"
	go test -run "^$" -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10x "./$(dirname "$file")"
	ran=$((ran + 1))
done < <(grep -rE --include='*_test.go' '^func Fuzz' api cmd emulator internal)
echo "$ran fuzz targets ran, none failed"
