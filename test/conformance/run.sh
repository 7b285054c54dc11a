#!/usr/bin/env bash
# Runs Microsoft's own SDK test suites, unmodified and in live mode, against the emulator.
#   test/conformance/run.sh [suite...]     all of azsecrets azcertificates azkeys by default
# Ends with "conformance: N passed, N failed, N excluded" and fails when anything fails. Needs Go only.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(azsecrets azcertificates azkeys)

# Everything is compiled before any proxy variable is set: it would catch the go command as well.
(cd "$root" && go build -o "$work/keyvault-emulator" ./cmd/keyvault-emulator)
cd "$here"
go build -o "$work/conformance" .
for suite in "${suites[@]}"; do
  package=github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/$suite
  printf 'compiling %s %s\n' "$suite" "$(go list -f '{{.Module.Version}}' "$package")"
  go test -c -o "$work/$suite.test" "$package"
  ln -s "$(go list -f '{{.Dir}}' "$package")" "$work/$suite.dir"
done
"$work/conformance" -dir "$work" -seed seed.yaml -exclusions exclusions.txt "${suites[@]}"
