#!/bin/bash
# Tests the test cluster itself. Needs root, and no cluster that is up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
./cgroup.sh
GOFLAGS="-trimpath -buildvcs=false" CGO_ENABLED=0 GOWORK=off go -C ../kit test ./...
./lifecycle.sh
./node.sh
