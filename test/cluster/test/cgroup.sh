#!/bin/bash
# Tests cgroup.sh: version 1 and 2 on a temporary tree behind which stands a
# kernel of paper, and version 2 on a real hierarchy where this machine has one.
# shellcheck source-path=SCRIPTDIR
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../cgroup.sh"
. "$here/expect.sh"

real() { (. "$here/../cgroup.sh"; "$@"); } # as before the definitions below

# --- the kernel of paper: what version 2 allows and refuses -------------------
has() { [[ " $(<"$1") " == *" $2 "* ]]; }
procs() { [[ -s $1/cgroup.procs ]]; }
hands_out() { [[ -n $(<"$1/cgroup.subtree_control") ]]; }

cgroup_mkdir() {
	mkdir -p "$1"
	[[ -e ${1%/*}/cgroup.subtree_control ]] || return 0
	cp "${1%/*}/cgroup.subtree_control" "$1/cgroup.controllers"
	touch "$1/cgroup.subtree_control" "$1/cgroup.procs"
	echo domain >"$1/cgroup.type"
	[[ ! -e ${1%/*}/threaded ]] || echo "domain invalid" >"$1/cgroup.type"
}

cgroup_write() {
	local file=$1 text=$2 dir=${1%/*}
	case ${file##*/} in
	cgroup.subtree_control) paper_hand_out "$dir" "${text:0:1}" "${text:1}" ;;
	cgroup.procs) paper_enter "$dir" "$text" ;;
	*) echo "$text" >"$file" ;;
	esac
}

paper_hand_out() {
	local dir=$1 sign=$2 controller=$3 child
	has "$dir/cgroup.controllers" "$controller" || return 1
	if [[ $sign == + ]]; then
		if [[ -e $dir/cgroup.type ]] && procs "$dir"; then # no process in between
			[[ " cpuset cpu pids " == *" $controller "* ]] || return 1
			touch "$dir/threaded" # allowed, but now no process may enter a child
		fi
		xargs <<<"$(<"$dir/cgroup.subtree_control") $controller" >"$dir/new"
		mv "$dir/new" "$dir/cgroup.subtree_control"
	else
		for child in "$dir"/*/cgroup.subtree_control; do
			[[ ! -e $child ]] || ! has "$child" "$controller" || return 1 # a child hands it on
		done
		tr ' ' '\n' <"$dir/cgroup.subtree_control" | grep -vx "$controller" | xargs >"$dir/new"
		mv "$dir/new" "$dir/cgroup.subtree_control"
	fi
	for child in "$dir"/*/cgroup.controllers; do
		[[ ! -e $child ]] || cp "$dir/cgroup.subtree_control" "$child"
	done
}

paper_enter() {
	local dir=$1 pid=$2 file
	[[ ! -e $dir/cgroup.type ]] || ! hands_out "$dir" || return 1
	! grep -qs invalid "$dir/cgroup.type" || return 1
	while read -r file; do sed -i "/^$pid\$/d" "$file"; done < <(find "$tree" -name cgroup.procs)
	echo "$pid" >>"$dir/cgroup.procs"
}

cgroup_rmdir() { # the kernel's files go with the directory
	local procs
	procs=$(find "$1" -name cgroup.procs -exec cat {} +)
	[[ -z $procs ]] && rm -r "$1"
}

unified() { # unified CONTROLLERS HANDED-OUT PROCESSES...: a new tree
	tree=$(mktemp -d "$work/v2.XXXX")
	echo "$1" >"$tree/cgroup.controllers"
	echo "$2" >"$tree/cgroup.subtree_control"
	shift 2
	printf '%s\n' "$@" >"$tree/cgroup.procs"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
all="cpuset cpu io memory hugetlb pids rdma misc"
sorted() { tr ' ' '\n' <"$1" | sort | xargs; }

# --- which version ---------------------------------------------------------------
tree=$(mktemp -d "$work/v1.XXXX")
mkdir -p "$tree"/{cpuset,cpu,cpuacct,memory,unified,user}
touch "$tree"/{cpuset,cpu,memory,unified}/cgroup.procs "$tree/unified/cgroup.controllers" "$tree"/cpuset/cpuset.{cpus,mems}
ln -s cpu "$tree/cpu-too"
echo 0-1 >"$tree/cpuset/cpuset.cpus"
echo 0 >"$tree/cpuset/cpuset.mems"
expect "a hybrid setup is version 1" 1 "$(cgroup_version "$tree")"
unified "$all" ""
expect "a unified hierarchy is version 2" 2 "$(cgroup_version "$tree")"

# --- version 1 -------------------------------------------------------------------
tree=$(find "$work" -maxdepth 1 -name 'v1.*')
before=$(find "$tree" | sort)
cgroup_up "$tree" ours "$work/state"
expect "v1: one cgroup per hierarchy, none in what is not one" "cpu cpuset memory unified" \
	"$(cd "$tree" && find . -type d -name ours -printf '%h\n' | sort | sed 's,^\./,,' | xargs)"
expect "v1: the cpuset is filled" "0-1 0" "$(cat "$tree/cpuset/ours/cpuset.cpus" "$tree/cpuset/ours/cpuset.mems" | xargs)"
mkdir -p "$tree/memory/ours/kubepods/pod1"
cgroup_down "$tree" ours "$work/state"
expect "v1: down leaves the tree as it was" "$before" "$(find "$tree" | sort)"

# --- version 2, the machine's root ------------------------------------------------
unified "$all" "cpu memory pids" 1 2
cgroup_up "$tree" ours "$work/state"
expect "v2: controllers reach our cgroup" "cpu cpuset hugetlb io memory misc pids rdma" "$(sorted "$tree/ours/cgroup.controllers")"
expect "v2: and what the kubelet makes below it" "cpu cpuset hugetlb io memory misc pids rdma" "$(sorted "$tree/ours/cgroup.subtree_control")"
expect "v2: no process in between" "" "$(<"$tree/ours/cgroup.procs")"
expect "v2: what was changed is known" "cpuset io hugetlb rdma misc" "$(xargs <"$work/state")"
cgroup_mkdir "$tree/ours/kubepods"
paper_enter "$tree/ours/kubepods" 77
cgroup_down "$tree" ours "$work/state"
expect "v2: down fails while a process is left" 1 $?
paper_enter "$tree" 77
cgroup_down "$tree" ours "$work/state"
expect "v2: down removes our cgroup" "" "$(find "$tree" -mindepth 1 -type d)"
expect "v2: and hands out what it did before" "cpu memory pids" "$(sorted "$tree/cgroup.subtree_control")"

unified "$all" "" 1
cgroup_up "$tree" ours "$work/state"
cgroup_mkdir "$tree/theirs"
paper_hand_out "$tree/theirs" + io
cgroup_down "$tree" ours "$work/state"
expect "v2: what somebody else came to use stays" "io" "$(sorted "$tree/cgroup.subtree_control")"

unified "cpu memory pids" "cpu memory pids" 1
cgroup_up "$tree" ours "$work/state"
expect "v2: controllers the machine lacks are not asked for" "cpu memory pids" "$(sorted "$tree/ours/cgroup.subtree_control")"

# --- version 2, inside a container -------------------------------------------------
unified "$all" "" 1 20 30
echo domain >"$tree/cgroup.type"
cgroup_up "$tree" ours "$work/state"
expect "v2 in a container: processes step aside" "1 20 30" "$(xargs <"$tree/ours.aside/cgroup.procs")"
expect "v2 in a container: controllers reach our cgroup" "cpu cpuset hugetlb io memory misc pids rdma" "$(sorted "$tree/ours/cgroup.controllers")"
cgroup_down "$tree" ours "$work/state"
expect "v2 in a container: and come back" "1 20 30" "$(xargs <"$tree/cgroup.procs")"
expect "v2 in a container: nothing is left" "" "$(find "$tree" -mindepth 1 -type d)$(<"$tree/cgroup.subtree_control")"

# --- version 2, real -----------------------------------------------------------------
root=
for d in /sys/fs/cgroup /sys/fs/cgroup/unified; do
	[[ ! -w $d/cgroup.subtree_control || -z $(<"$d/cgroup.controllers") ]] || root=$d
done
if [[ -z $root || $(id -u) != 0 ]]; then
	skip "v2 on a real hierarchy: needs root and a unified hierarchy with a controller"
else
	# Below a cgroup of the test's own, which is like the root of a container: it
	# holds a process and may not hand out controllers until that has stepped aside.
	handed=$(<"$root/cgroup.subtree_control")
	controller=$(cut -d' ' -f1 "$root/cgroup.controllers")
	real cgroup_write "$root/cgroup.subtree_control" "+$controller"
	box=$root/akv2k8s-cgroup-test
	mkdir "$box"
	sleep 600 & sleeper=$!
	echo $sleeper >"$box/cgroup.procs"
	real cgroup_up "$box" ours "$work/state"
	expect "v2 real: up" 0 $?
	expect "v2 real: controllers reach our cgroup" "$(<"$box/cgroup.controllers")" "$(<"$box/ours/cgroup.subtree_control")"
	expect "v2 real: the process stepped aside" "$sleeper" "$(<"$box/ours.aside/cgroup.procs")"
	mkdir -p "$box/ours/kubepods/pod1"
	echo $sleeper >"$box/ours/kubepods/pod1/cgroup.procs"
	real cgroup_down "$box" ours "$work/state"
	expect "v2 real: down fails while a process is left" 1 $?
	echo $sleeper >"$box/ours.aside/cgroup.procs"
	real cgroup_down "$box" ours "$work/state"
	expect "v2 real: down" 0 $?
	expect "v2 real: the process is back" "$sleeper" "$(<"$box/cgroup.procs")"
	expect "v2 real: nothing is left" "" "$(find "$box" -mindepth 1 -type d)$(<"$box/cgroup.subtree_control")"
	kill $sleeper
	wait $sleeper 2>/dev/null
	rmdir "$box"
	[[ " $handed " == *" $controller "* ]] || real cgroup_write "$root/cgroup.subtree_control" "-$controller"
	expect "v2 real: the root hands out what it did before" "$handed" "$(<"$root/cgroup.subtree_control")"
fi
verdict
