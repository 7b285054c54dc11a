# The cgroups that the pods live in, on version 1 and 2; sourced, not run.
# shellcheck shell=bash
#
# All pods live below one cgroup, NAME, at the root of each hierarchy. What else
# was changed to make that possible is written to a file, so that cgroup_down
# can put it back.

# cgroup_version ROOT prints 1 or 2. Only a unified hierarchy has the file; in a
# hybrid setup ROOT is a tmpfs with the version 1 hierarchies below it.
cgroup_version() { if [[ -e $1/cgroup.controllers ]]; then echo 2; else echo 1; fi; }

# cgroup_up ROOT NAME STATE makes the cgroup; STATE is the file for the changes.
cgroup_up() { "cgroup$(cgroup_version "$1")_up" "$@"; }

# cgroup_down ROOT NAME STATE removes it and undoes the changes. It fails while
# processes are left inside.
cgroup_down() { "cgroup$(cgroup_version "$1")_down" "$@"; }

# The only two ways in which the functions below change anything; the tests put
# a kernel of paper behind them.
cgroup_write() { { printf '%s\n' "$2" >"$1"; } 2>/dev/null; }
cgroup_mkdir() { mkdir -p "$1"; }
cgroup_rmdir() { find "$1" -depth -type d -exec rmdir {} + 2>/dev/null; }

# --- version 1: one hierarchy per controller, some of them named twice by links

cgroup1_up() {
	local root=$1 name=$2 h f
	for h in "$root"/*/; do
		h=${h%/}
		[[ ! -L $h && -e $h/cgroup.procs ]] || continue
		cgroup_mkdir "$h/$name" || return 1
		for f in cpuset.cpus cpuset.mems; do # empty when new, and no process may enter until they are filled
			[[ ! -e $h/$f ]] || cgroup_write "$h/$name/$f" "$(<"$h/$f")" || return 1
		done
	done
}

cgroup1_down() {
	local root=$1 name=$2 h left=0
	for h in "$root"/*/"$name"; do
		[[ ! -d $h ]] || cgroup_rmdir "$h" || left=1
	done
	return $left
}

# --- version 2: one hierarchy; a parent hands controllers to its children

# cgroup2_up hands out every controller there is: runc would do so anyway, and
# then nobody would know what to take back.
cgroup2_up() {
	local root=$1 name=$2 state=$3 handed c available missing=()
	read -ra available <"$root/cgroup.controllers"
	handed=" $(<"$root/cgroup.subtree_control") "
	for c in "${available[@]}"; do
		[[ $handed == *" $c "* ]] || missing+=("$c")
	done
	: >"$state" || return 1
	((${#missing[@]} == 0)) || cgroup2_aside "$root" "$name" "$state" || return 1
	for c in "${missing[@]}"; do
		cgroup_write "$root/cgroup.subtree_control" "+$c" || return 1
		echo "$c" >>"$state"
	done
	cgroup_mkdir "$root/$name" || return 1
	# Nothing of ours runs in NAME itself: a cgroup that hands out controllers
	# may hold no process. The kubelet makes "kubepods" below it.
	for c in "${available[@]}"; do
		cgroup_write "$root/$name/cgroup.subtree_control" "+$c" || return 1
	done
}

# cgroup2_aside lets the processes of ROOT step aside into a leaf, where they
# would stand in the way. The root of the machine may hand out controllers
# whatever it holds. Any other cgroup (ROOT is one inside a container) may not
# hold processes too; for some controllers the kernel allows it, but the children
# are of no use then. So this comes first.
cgroup2_aside() {
	local root=$1 name=$2 state=$3
	[[ -e $root/cgroup.type && -n $(<"$root/cgroup.procs") ]] || return 0
	cgroup_mkdir "$root/$name.aside" || return 1
	echo aside >>"$state"
	cgroup2_move "$root" "$root/$name.aside"
}

# cgroup2_move moves every process of one cgroup to another; one that has ended
# meanwhile is no failure, and a second look finds children born in between.
cgroup2_move() {
	local round pid
	for round in 1 2 3; do
		while read -r pid; do
			cgroup_write "$2/cgroup.procs" "$pid" || :
		done <<<"$(<"$1/cgroup.procs")"
	done
	: "$round"
}

cgroup2_down() {
	local root=$1 name=$2 state=$3 c
	[[ ! -d $root/$name ]] || cgroup_rmdir "$root/$name" || return 1
	[[ -e $state ]] || return 0
	while read -r c; do # refused if somebody else has come to use it: then it stays
		[[ $c == aside ]] || cgroup_write "$root/cgroup.subtree_control" "-$c" || :
	done <"$state"
	if grep -q '^aside$' "$state" && [[ -d $root/$name.aside ]]; then
		cgroup2_move "$root/$name.aside" "$root"
		cgroup_rmdir "$root/$name.aside" || return 1
	fi
}
