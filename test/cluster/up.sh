#!/bin/bash
# From nothing to a running one-node Kubernetes cluster. It lives in namespaces
# of its own: the machine's interfaces, firewall, mounts and sysctls stay as they
# are. down.sh ends it.
#
#   up.sh           installs, builds and starts
#   up.sh prepare   installs and builds, and starts nothing
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/config.sh"
. "$HERE/cgroup.sh"

# What is needed, and the Debian package that has it.
needs=(
	runc:runc /usr/lib/cni/ptp:containernetworking-plugins
	nft:nftables iptables:iptables conntrack:conntrack ip:iproute2 curl:curl
)

packages() {
	local need missing=() log
	for need in "${needs[@]}"; do
		command -v "${need%:*}" >/dev/null || missing+=("${need#*:}")
	done
	((${#missing[@]})) || return 0
	command -v apt-get >/dev/null || die "needs ${missing[*]} (names of Debian packages); install them and try again"
	say "installing ${missing[*]}"
	log=$(mktemp)
	export DEBIAN_FRONTEND=noninteractive
	if ! (
		exec {lock}>&- # a service that a package starts must not keep it
		apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"
	) >"$log" 2>&1 </dev/null; then
		tail -20 "$log" >&2
		rm -f "$log"
		die "installing ${missing[*]} failed"
	fi
	rm -f "$log"
}

# static_busybox prints the path of one. The machine's own may be a dynamic one,
# which an image cannot hold; the package is then unpacked into the cache, not
# installed in the other's place.
static_busybox() {
	local own work kept=$CACHE/busybox-static
	own=$(command -v busybox) && ! ldd "$own" >/dev/null 2>&1 && { echo "$own"; return; }
	if [[ ! -x $kept ]]; then
		command -v apt-get >/dev/null || die "needs a statically linked busybox"
		say "fetching busybox-static" >&2
		work=$(mktemp -d "$CACHE/.busybox.XXXXXX")
		chmod 0755 "$work" # for apt's own user
		if ! (cd "$work" && { apt-get download -qq busybox-static || { apt-get update -qq && apt-get download -qq busybox-static; }; } &&
			dpkg-deb -x busybox-static_*.deb . && mv -T "$(find . -type f -path '*bin/busybox')" "$kept") >/dev/null 2>&1 </dev/null; then
			rm -rf "$work"
			die "fetching the package busybox-static failed"
		fi
		rm -rf "$work"
	fi
	echo "$kept"
}

# healthy: everything that was started still runs, and the API server answers.
healthy() {
	local pid
	pid=$(node_pid) && [[ -e $RUN/ready && ! -e $RUN/ended ]] &&
		nsenter --target "$pid" --net -- curl -fsS --max-time 10 --cacert "$RUN/pki/ca.crt" \
			https://127.0.0.1:6443/readyz >/dev/null 2>&1
}

start() { # start PROGRAMS BUSYBOX
	local name program
	mkdir -p "$RUN"/{bin,log,etc}
	ln -sfn "$2" "$RUN/bin/busybox"
	while read -r name program; do ln -sfn "$program" "$RUN/bin/$name"; done <<<"$1"
	cgroup_up /sys/fs/cgroup $CGROUP "$RUN/cgroup" || die "this machine's cgroups cannot be used (is it a container?)"
	"$RUN/bin/kit" pki -dir "$RUN/pki" -node $NODE -node-ip $NODE_IP -hosts $SERVICE_IP
	cp "$RUN/pki/admin.kubeconfig" "$RUN/kubeconfig"
	# What CLI commands find as their DNS; see "run".
	printf 'nameserver %s\nsearch svc.cluster.local cluster.local\noptions ndots:2\n' $NODE_IP >"$RUN/resolv.conf"
	printf '127.0.0.1 localhost\n%s %s\n' $NODE_IP ${REGISTRY%:*} >"$RUN/hosts"
	printf '%s: files\n' passwd group shadow >"$RUN/nsswitch.conf"
	echo 'hosts: files dns' >>"$RUN/nsswitch.conf"
	# Both carry the name: the node's init and, in front of it, its parent.
	# shellcheck disable=SC2016 # expanded by the inner shell
	setsid bash -c 'name=$1; shift; exec -a "$name" "$@"' sh $INIT unshare --fork --kill-child --pid --mount-proc --mount --net --uts --ipc \
		bash -c 'exec -a "$1" bash "$2"' sh $INIT "$HERE/node.sh" >"$RUN/log/node.log" 2>&1 </dev/null {lock}>&- &
	await_ready $!
}

await_ready() {
	local unshare=$1 init=''
	for _ in $(seq 2400); do
		if [[ -z $init ]]; then
			init=$(child "$unshare")
			[[ -z $init ]] || echo "$init" >"$RUN/init.pid"
		elif [[ -e $RUN/ready ]]; then
			return
		fi
		if ! kill -0 "$unshare" 2>/dev/null; then
			tail -20 "$RUN/log/node.log" >&2
			die "the node ended while starting"
		fi
		sleep 0.1
	done
	die "not ready after 4 minutes"
}

tell() {
	local here
	here=$(realpath --relative-to="$PWD" "$HERE")
	cat <<-EOF

		kubeconfig        $RUN/kubeconfig (good inside the cluster's network)
		kubectl           $here/kubectl get pods -A
		any command       $here/run COMMAND...          in the cluster's network
		on the node       $here/run --node COMMAND...   in all of its namespaces
		push an image     $here/push NAME:TAG FILE=/DESTINATION
		logs, etcd        $RUN/log, $RUN/etcd
		end it            make cluster-down
	EOF
}

main() {
	local programs busybox
	require_machine
	mkdir -p "$CACHE"
	exec {lock}>"$CACHE/.up"
	flock -n "$lock" || { say "waiting for another start"; flock "$lock"; }
	if healthy; then
		say "the cluster is up already"
		tell
		return
	fi
	if [[ -e $RUN ]]; then
		say "removing what is left of an earlier cluster"
		"$HERE/down.sh"
	fi
	packages
	busybox=$(static_busybox)
	programs=$(ELAPSED=$SECONDS "$HERE/build.sh")
	[[ ${1:-} != prepare ]] || return 0
	say "starting"
	trap 'keep_logs; "$HERE/down.sh"' EXIT
	start "$programs" "$busybox"
	trap - EXIT
	say "ready"
	tell
}

# A start that fails leaves nothing but its logs.
keep_logs() {
	local logs
	[[ -d $RUN/log ]] || return 0
	logs=$(mktemp -d "${TMPDIR:-/tmp}/akv2k8s-cluster-logs.XXXXXX")
	cp -r "$RUN/log/." "$logs"
	echo "test cluster: did not start; its logs are in $logs" >&2
}

main "$@"
