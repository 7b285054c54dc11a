#!/bin/bash
# Builds the cluster's programs from the Go module proxy into a cache outside
# the checkout, under names that tell their content: built once per machine.
#
#   build.sh          all of them; prints NAME PATH lines on standard output
#   build.sh envtest  etcd, kube-apiserver and kubectl; prints their directory
#
# What is happening goes to standard error.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/config.sh"

# Only what decides the content: the caches stay Go's own.
SECONDS=${ELAPSED:-0} # so that the times told go on from the caller's
export GOFLAGS="-trimpath -buildvcs=false" CGO_ENABLED=0 GOWORK=off GO111MODULE=on
unset GOOS GOARCH GOEXPERIMENT

command -v go >/dev/null || die "needs Go to build (https://go.dev/dl)"
mkdir -p "$CACHE"
exec {lock}>"$CACHE/.lock" # one build at a time, or two would build the same
flock -n "$lock" || { say "waiting for another build" >&2; flock "$lock"; }

# The components take the version to be v0.0.0 unless told, and feature gates
# their defaults for it.
kube_flags="-s -w"
for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	minor=${KUBE_VERSION#1.}
	kube_flags+=" -X $p.gitVersion=v$KUBE_VERSION -X $p.gitMajor=1 -X $p.gitMinor=${minor%%.*}"
	kube_flags+=" -X $p.gitTreeState=clean -X $p.gitCommit=$(printf %040d 0) -X $p.buildDate=2026-01-01T00:00:00Z"
done
containerd=github.com/containerd/containerd/v2
containerd_flags="-s -w -X $containerd/version.Version=v$CONTAINERD_VERSION"

# key DIRECTORY FLAGS... prints what names a program's content: its module's
# files, the flags and the compiler.
key() {
	local dir=$HERE/$1
	{
		printf '%s\n' "$@" "$GOFLAGS" "$(go -C "$dir" version)"
		(cd "$dir" && find . -type f \( -name '*.go' -o -name go.mod -o -name go.sum \) ! -name '*_test.go' -print0 |
			LC_ALL=C sort -z | xargs -0 sha256sum)
	} | sha256sum | cut -c1-16
}

# compile NAME ABOUT DIRECTORY FLAGS... PACKAGE leaves the program's path in $program.
compile() {
	local name=$1 about=$2 dir=$3; shift 3
	program=$CACHE/$name-$(key "$dir" "$@")
	if [[ -x $program ]]; then
		touch -c "$program"
		return
	fi
	say "building $name ($about)" >&2
	local work t0=$SECONDS
	work=$(mktemp -d "$CACHE/.build.XXXXXX")
	if ! watched "$name" "$work" go -C "$HERE/$dir" build -v -o "$work/$name" "$@"; then
		tail -20 "$work/log" >&2
		rm -rf "$work"
		die "building $name failed"
	fi
	mv -T "$work/$name" "$program" # whole or not at all
	rm -rf "$work"
	say "built $name in $((SECONDS - t0)) s" >&2
	find "$CACHE" -maxdepth 1 -type f -name "$name-*" -mtime +30 -delete
}

# watched NAME WORK COMMAND... runs a build and tells every 15 s how far it is.
watched() {
	local name=$1 work=$2 t0=$SECONDS told=$SECONDS pid; shift 2
	"$@" >"$work/log" 2>&1 {lock}>&- &
	pid=$!
	# shellcheck disable=SC2064 # these values, now
	trap "kill $pid 2>/dev/null; rm -rf '$work'" EXIT
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		((SECONDS - told < 15)) || { told=$SECONDS; progress "$name" "$work/log" $((SECONDS - t0)); }
	done
	trap - EXIT
	wait "$pid"
}

progress() {
	local name=$1 log=$2 seconds=$3 packages modules
	packages=$(grep -vc '^go: ' "$log" || :)
	modules=$(grep -c '^go: downloading' "$log" || :)
	say "building $name: ${seconds} s, $modules modules downloaded, $packages packages compiled" >&2
}

kube="Kubernetes $KUBE_VERSION and etcd; about 10 minutes the first time on 2 cores"

kubectl() { compile kubectl "kubectl $KUBE_VERSION" kube -ldflags "$kube_flags" ./kubectl; }

envtest() {
	local assets
	# The whole cluster's program will do when it is there already.
	program=$CACHE/kube-$(key kube -ldflags "$kube_flags" .)
	if [[ -x $program ]]; then touch -c "$program"; else
		compile kube-envtest "the API server and etcd; about 6 minutes the first time on 2 cores" \
			kube -tags envtest -ldflags "$kube_flags" .
	fi
	assets=$CACHE/envtest-${program##*/}
	mkdir -p "$assets"
	for name in etcd kube-apiserver; do ln -sfn "$program" "$assets/$name"; done
	kubectl
	ln -sfn "$program" "$assets/kubectl"
	echo "$assets"
}

all() {
	compile kube "$kube" kube -ldflags "$kube_flags" .
	for name in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet; do
		echo "$name $program"
	done
	kubectl
	echo "kubectl $program"
	local tags="urfave_cli_no_docs no_btrfs no_devmapper no_zfs no_tracing"
	for name in containerd ctr; do
		compile $name "containerd $CONTAINERD_VERSION" \
			containerd -tags "$tags" -ldflags "$containerd_flags" $containerd/cmd/$name
		echo "$name $program"
	done
	compile containerd-shim-runc-v2 "containerd $CONTAINERD_VERSION" \
		containerd -tags "urfave_cli_no_docs no_grpc" -ldflags "$containerd_flags" $containerd/cmd/containerd-shim-runc-v2
	echo "containerd-shim-runc-v2 $program"
	compile coredns "the cluster's DNS" coredns -ldflags "-s -w" .
	echo "coredns $program"
	compile kit "the cluster's small tools" kit -ldflags "-s -w" .
	echo "kit $program"
	compile pause "the program of a pod's sandbox" kit -ldflags "-s -w" ./pause
	echo "pause $program"
}

if [[ ${1:-} == envtest ]]; then envtest; else all; fi
