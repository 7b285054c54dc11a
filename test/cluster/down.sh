#!/bin/bash
# Ends the cluster that up.sh started, whatever state it is in, and removes
# every trace of it. The built programs stay in their cache.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/config.sh"
. "$HERE/cgroup.sh"

# ours prints the processes that belong to a cluster: its init, and what the
# commands beside this file left running in its network (they carry the mark).
ours() {
	local p argv host
	host=$(readlink /proc/self/ns/net)
	while read -r p; do
		argv=
		IFS= read -r -d '' argv 2>/dev/null <"$p"
		[[ $argv != "$INIT" ]] || cut -d/ -f3 <<<"$p"
	done < <(grep -lzx "$INIT" /proc/[0-9]*/cmdline 2>/dev/null)
	while read -r p; do
		p=${p%/environ}
		[[ $(readlink "$p/ns/net" 2>/dev/null || echo "$host") == "$host" ]] || echo "${p##*/}"
	done < <(grep -lzx "AKV2K8S_CLUSTER=$RUN" /proc/[0-9]*/environ 2>/dev/null)
}

end() { # end SIGNAL: tells all of ours, and waits up to 5 s for them to be gone
	local pids
	for _ in $(seq 50); do
		mapfile -t pids < <(ours)
		((${#pids[@]})) || return 0
		kill -s "$1" "${pids[@]}" 2>/dev/null
		sleep 0.1
	done
	return 1
}

main() {
	require_machine
	[[ $(readlink /proc/self/ns/net) == "$(readlink /proc/1/ns/net)" || -z ${AKV2K8S_CLUSTER:-} ]] ||
		die "this command runs inside the cluster; end it from outside"
	end TERM || end KILL || die "processes do not end: $(ours | xargs)"
	for _ in $(seq 100); do # a cgroup can go once the last process in it has
		cgroup_down /sys/fs/cgroup $CGROUP "$RUN/cgroup" && break
		sleep 0.1
	done
	for _ in $(seq 50); do # what the kernel is still ending may write once more
		rm -rf --one-file-system "$RUN" 2>/dev/null
		[[ -e $RUN ]] || return 0
		sleep 0.1
	done
	die "cannot remove $RUN"
}

main
