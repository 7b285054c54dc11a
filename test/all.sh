#!/bin/bash
# `make test`: everything, in two lanes. Stories on the real node wait most of the time,
# for pods, nodes and time-outs; what needs no cluster runs meanwhile, and yields to them.
set -euo pipefail
cd "$(dirname "$0")/.."

meanwhile="unit conformance azurite apiserver"
log=$(mktemp)
# shellcheck disable=SC2086 # several targets
setsid nice -n 15 make $meanwhile >"$log" 2>&1 &
lane=$!
trap 'kill -- -$lane 2>/dev/null || :; rm -f "$log"' EXIT
echo "meanwhile: $meanwhile; what they say comes in the end"

failed=()
make e2e demo || failed+=("e2e or demo")
wait "$lane" || failed+=("one of $meanwhile")
cat "$log"
make cluster-test || failed+=(cluster-test) # counts what is left on the machine, so it runs alone
if ((${#failed[@]})); then
	printf 'make test: failed: %s\n' "${failed[@]}" >&2
	exit 1
fi
