#!/usr/bin/env bash
# Reads `go test -bench` and prints one line for each figure:
#   BENCH <name> <number> <unit>
set -euo pipefail
awk '/^Benchmark/ {
  name = $1; sub(/^Benchmark/, "", name); sub(/-[0-9]+$/, "", name)
  for (i = 3; i < NF; i += 2) print "BENCH", name, $i, $(i + 1)
}
/^(FAIL|panic:)/ { failed = 1; print > "/dev/stderr" }
END { exit failed }'
