#!/bin/bash
# Starts and ends the cluster in every state it may be found in, and compares
# the machine before and after.
# shellcheck source-path=SCRIPTDIR
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../config.sh"
. "$here/../cgroup.sh"
. "$here/expect.sh"
require_machine
[[ -z $(node_pid) ]] || die "a cluster is up; make cluster-down ends it"
up() { "$HERE/up.sh" 2>&1; }
down() { "$HERE/down.sh" 2>&1; }
nodes() { "$HERE/kubectl" get nodes -o name 2>&1; }

# machine prints what a cluster could have changed. Other programs may come and
# go meanwhile: processes count by the namespaces they are in, cgroups to the depth
# that ours are at.
machine() {
	echo "# namespaces of processes"
	find /proc -maxdepth 3 -path '/proc/[0-9]*/ns/*' \( -name net -o -name mnt -o -name pid -o -name uts -o -name ipc \) \
		-printf '%l\n' 2>/dev/null | sort -u
	echo "# programs"
	find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -printf '%l\n' 2>/dev/null |
		grep -E "^$CACHE/(kube|containerd|ctr|coredns|kit|pause)-|/(runc|unshare|nsenter)\$" | sort
	echo "# interfaces, addresses, routes"
	ip -o link | sed 's/ qlen.*//'
	ip -o addr | sed 's/valid_lft.*//'
	ip route
	ip netns
	echo "# mounts"
	cut -d' ' -f3- /proc/self/mountinfo
	echo "# firewall"
	nft list ruleset | sed -E 's/packets [0-9]+ bytes [0-9]+//'
	echo "# cgroups"
	find /sys/fs/cgroup -maxdepth $((3 - $(cgroup_version /sys/fs/cgroup))) -type d | sort
	find /sys/fs/cgroup -type d -path "*/$CGROUP*"
	cat /sys/fs/cgroup/{,unified/}cgroup.subtree_control 2>/dev/null
	echo "# sysctls"
	sysctl -a 2>/dev/null |
		grep -E '^(vm\.(overcommit|panic)|kernel\.(panic|hostname|keys)|net\.(ipv4\.(ip_forward|conf)|ipv6\.conf|bridge|netfilter\.nf_conntrack_max))' | sort
	hostname
	echo "# files"
	find /etc /opt /run /var/lib /var/log /var/run/ /usr/libexec -xdev \
		! -path '/var/lib/apt/*' ! -path '/var/lib/dpkg/*' 2>/dev/null | sort
}

"$HERE/up.sh" prepare || exit 1 # packages that are installed stay installed
before=$(machine)
unchanged() { # the kernel and the machine's own init take a moment to clear away what has ended
	local changes
	for _ in $(seq 50); do
		changes=$(diff <(echo "$before") <(machine)) && break
		sleep 0.1
	done
	expect "$1" "" "$changes"
}

echo "# up, used, up again, down"
expect "up" "ready" "$(up | sed -n 's/^\[ *[0-9]*s\] \(ready\)$/\1/p')"
init=$(node_pid)
"$HERE/kubectl" run leftover --image=$REGISTRY/busybox:1 --overrides='{"spec": {"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}],
	"containers": [{"name": "leftover", "image": "'$REGISTRY'/busybox:1", "command": ["sleep", "1000"], "ports": [{"containerPort": 80, "hostPort": 8099}],
	"volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}}' >/dev/null
expect "a pod runs" "pod/leftover condition met" "$("$HERE/kubectl" wait --for=condition=Ready pod/leftover --timeout=60s)"
"$HERE/run" --node sh -c 'echo {} >/etc/kubernetes/azure.json; mkdir -p /var/lib/cni; touch /var/lib/cni/x'
expect "up again says so" "the cluster is up already" "$(up | sed -n 's/^\[ *[0-9]*s\] //p')"
expect "and changes nothing" "$init" "$(node_pid)"
"$HERE/run" sleep 1000 &
sleeper=$!
"$HERE/kubectl" port-forward pod/leftover 8088:80 >/dev/null 2>&1 &
forward=$!
for pid in $sleeper $forward; do # until both are inside
	for _ in $(seq 100); do
		[[ $(readlink "/proc/$pid/exe") != */@(nsenter|unshare|bash) ]] && break
		sleep 0.1
	done
done
down
wait $sleeper 2>/dev/null
expect "a command left in the cluster's network ends" 143 $?
wait $forward 2>/dev/null
unchanged "down leaves the machine as it was"

echo "# down while down, and beside what others left"
expect "down while down" "" "$(down)"
sleep 1000 &
other=$!
mkdir -p "$RUN"
echo $other >"$RUN/init.pid"
touch "$RUN/ready"
expect "a stale state does not stand in the way" "node/node" "$(up >/dev/null && nodes)"
expect "the process that has the old id lives" 0 "$(kill -0 $other; echo $?)"
kill $other

echo "# half dead"
init=$(node_pid)
# shellcheck disable=SC2016 # for the node's shell
"$HERE/run" --node sh -c 'kill -9 $(pidof etcd kubelet)'
expect "up starts anew when a part has ended" "node/node" "$(up >/dev/null && nodes)"
expect "and not the same" "different" "$([[ $(node_pid) != "$init" ]] && echo different)"
kill -9 "$(sed -n 's/^PPid:\t//p' "/proc/$(node_pid)/status")"
expect "up starts anew after its parent was killed" "node/node" "$(up >/dev/null && nodes)"
kill -9 "$(node_pid)"
expect "up starts anew after the node was killed" "node/node" "$(up >/dev/null && nodes)"
rm -rf "$RUN" 2>/dev/null
down
unchanged "down ends a cluster whose state was deleted"

echo "# interrupted"
"$HERE/up.sh" >/dev/null 2>&1 &
interrupted=$!
for _ in $(seq 600); do
	[[ ! -e $RUN/init.pid ]] || break
	sleep 0.1
done
kill -TERM $interrupted
wait $interrupted
unchanged "an interrupted start leaves nothing"

echo "# a second checkout"
copy=$(mktemp -d)
cp -r "$HERE" "$copy/cluster"
expect "builds nothing" "" "$("$copy/cluster/build.sh" 2>&1 >/dev/null)"
expect "and finds the same programs" "$("$HERE/build.sh" 2>&1)" "$("$copy/cluster/build.sh" 2>&1)"
rm -rf "$copy"
verdict
