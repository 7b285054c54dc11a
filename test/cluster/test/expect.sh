# What the tests beside it say their results with; sourced, not run.
# shellcheck shell=bash
passed=0 failed=0

expect() { # expect WHAT WANT GOT
	if [[ $2 == "$3" ]]; then
		passed=$((passed + 1))
		printf 'ok   %s\n' "$1"
	else
		failed=$((failed + 1))
		printf 'FAIL %s\n--- want\n%.3000s\n--- got\n%.3000s\n' "$1" "$2" "$3"
	fi
}

skip() { printf 'SKIP %s\n' "$1"; }

verdict() {
	printf '%d passed, %d failed\n' "$passed" "$failed"
	((failed == 0))
}
