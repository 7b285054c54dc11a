#!/bin/bash
# Installs Azurite, Microsoft's own emulator of Azure Storage, from the npm registry
# into a cache outside the checkout, under a name that tells its content: once per
# machine. Prints two lines, the path of Node.js and that of Azurite's queue service.
#
# Azurite asks for Node.js 22. Where the machine has an older one or none that can
# be called (Debian 12 has 18), a pinned one comes from the registry too; npm itself
# runs on what Debian has. What is happening goes to standard error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/akv2k8s/bin # as test/cluster has it
NODE_MAJOR=22

say() { printf '[%4ds] %s\n' "$SECONDS" "$*" >&2; }
die() { printf 'azurite: %s\n' "$*" >&2; exit 1; }

need_npm() {
	command -v npm >/dev/null && return
	command -v apt-get >/dev/null && [[ $(id -u) == 0 ]] || die "needs npm (https://nodejs.org; on Debian: apt-get install -y npm)"
	say "installing npm"
	export DEBIAN_FRONTEND=noninteractive
	if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends npm; } >"$log" 2>&1 </dev/null; then
		tail -20 "$log" >&2
		die "installing npm failed; on Debian: apt-get install -y npm"
	fi
}

# new_enough tells whether the machine's own Node.js will do.
new_enough() {
	local version
	version=$(node --version 2>/dev/null) || return 1
	version=${version#v}
	((${version%%.*} >= NODE_MAJOR))
}

options=(--ignore-scripts --no-audit --no-fund --loglevel=error)
node=$(command -v node || :)
new_enough && options+=(--omit=optional) || node=
key=$({ cat package.json package-lock.json install.sh; echo "${options[@]}"; uname -m; } | sha256sum | cut -c1-16)
dir=$CACHE/azurite-$key

mkdir -p "$CACHE"
exec {lock}>"$CACHE/.azurite.lock" # one install at a time
flock -n "$lock" || { say "waiting for another install"; flock "$lock"; }

if [[ ! -d $dir ]]; then
	work=$(mktemp -d "$CACHE/.azurite.XXXXXX")
	log=$work/log
	trap 'rm -rf "$work"' EXIT
	need_npm
	say "installing Azurite; about half a minute"
	cp package.json package-lock.json "$work"
	if ! npm ci --prefix "$work" "${options[@]}" >"$log" 2>&1 </dev/null {lock}>&-; then
		tail -20 "$log" >&2
		die "npm ci failed"
	fi
	# Of half a gigabyte a quarter is never read.
	find "$work/node_modules" -type f \( -name '*.map' -o -name '*.d.ts' -o -name '*.md' \) -delete
	rm -rf "$work"/node_modules/node-linux-*/{include,share}
	mv -T "$work" "$dir" # whole or not at all
	trap - EXIT
	say "installed Azurite"
	find "$CACHE" -maxdepth 1 -type d -name 'azurite-*' -mtime +30 -exec rm -rf {} +
fi
touch -c "$dir"

if [[ -z $node ]]; then
	for node in "$dir"/node_modules/node-linux-*/bin/node; do :; done
	[[ -x $node ]] || die "needs Node.js $NODE_MAJOR: npm has none for this machine's processor"
fi
printf '%s\n' "$node" "$dir/node_modules/azurite/dist/src/queue/main.js"
