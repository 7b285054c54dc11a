# Settings and small words shared by the scripts beside it; sourced, not run.
# shellcheck shell=bash disable=SC2034 # the scripts that source it use them

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/akv2k8s/bin # built binaries, NAME-KEY
RUN=/run/akv2k8s-cluster             # state of the running cluster; gone when it is down

KUBE_VERSION=1.37.2                  # as in kube/go.mod
CONTAINERD_VERSION=2.4.2             # as in containerd/go.mod

NODE=node                            # the node's name
NODE_IP=10.0.0.10                    # the node, its registry and the cluster's DNS
RESOLVER_IP=10.0.0.53                # DNS of the network that the node is in
POD_CIDR=10.244.0.0/22
SERVICE_CIDR=10.96.0.0/16
SERVICE_IP=10.96.0.1                 # the service "kubernetes": first of SERVICE_CIDR
REGISTRY=registry.localhost:5000     # see README.md for the choice of this name
CGROUP=akv2k8s-test                  # all pods live below it
INIT=akv2k8s-node                    # argv[0] of the node's first process

say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }
die() { printf 'test cluster: %s\n' "$*" >&2; exit 1; }

# require_machine refuses what cannot work, before anything is done.
require_machine() {
	if [[ $(uname -s) != Linux || $(id -u) != 0 ]]; then
		die "needs Linux and root; with a cluster of your own (kind, say) as the current context, \"make demo CLUSTER=current\" does without it"
	fi
}

# node_pid prints the process id of the node's init, and fails without one. A
# process id is used again by others, so the name that init runs under counts.
node_pid() {
	local pid argv
	pid=$(cat "$RUN/init.pid" 2>/dev/null) && [[ -n $pid ]] || return 1
	IFS= read -r -d '' argv 2>/dev/null <"/proc/$pid/cmdline" || return 1
	[[ $argv == "$INIT" ]] && echo "$pid"
}

# child PID prints the only child of a process; nothing while there is none.
# grep's status says nothing: it fails for any process that ends meanwhile.
child() { { grep -l "^PPid:[[:space:]]$1\$" /proc/[0-9]*/status 2>/dev/null || :; } | cut -d/ -f3 | head -1; }
