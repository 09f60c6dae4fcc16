#!/bin/sh
# The one test command. It sets up what it needs, runs everything, lists what this machine cannot run, and prints how
# long each part took. With CI=true, what could not run is a failure.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$(pwd)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
failed=""
not_run=""
times=""
passed=0

say() { printf '%s\n' "$*"; }

part() { # part NAME COMMAND...: runs it, keeps its time, prints its output only when it fails
	name=$1; shift
	start=$(date +%s)
	say "== $name"
	if "$@" >"$logs/out" 2>&1; then
		passed=$((passed + 1))
		grep -E '^(ok|---|PASS|[0-9]+ passed)' "$logs/out" | sed 's/^/   /'
	else
		failed="$failed
  $name"
		cat "$logs/out"
		say "== $name FAILED"
	fi
	times="$times
$(printf '%6ss  %s' "$(($(date +%s) - start))" "$name")"
}

skip() { not_run="$not_run
  not run: $1"; }

is_root_on_debian() { [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ] && command -v apt-get >/dev/null; }

apt_install() { # apt_install PROGRAM PACKAGE...
	program=$1; shift
	command -v "$program" >/dev/null && return 0
	is_root_on_debian || return 1
	say "installing Debian packages: $*"
	{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"; } >"$logs/apt" 2>&1 || { tail -n 5 "$logs/apt"; return 1; }
	command -v "$program" >/dev/null
}

sh .ci/tools.sh go make node || exit 1

race="-race"
if ! apt_install gcc gcc libc6-dev; then
	race=""
	skip "the race detector: no gcc"
fi
if apt_install chromium chromium fonts-dejavu-core; then
	WAYMARK_CHROMIUM=$(command -v chromium)
elif command -v google-chrome >/dev/null; then
	WAYMARK_CHROMIUM=$(command -v google-chrome)
else
	WAYMARK_CHROMIUM=""
	skip "the browser test: no chromium"
fi
export WAYMARK_CHROMIUM

gofmt_clean() { unformatted=$(git ls-files -- '*.go' | xargs gofmt -l); [ -z "$unformatted" ] || { say "gofmt would change:" "$unformatted"; return 1; }; }

part "build: binary and engine" make build
WAYMARK_ENGINE=$(cat bin/engine 2>/dev/null)
WAYMARK_BINARY="$root/bin/waymark"
export WAYMARK_ENGINE WAYMARK_BINARY

part "gofmt" gofmt_clean
part "vet" go vet ./...
part "staticcheck" go tool staticcheck ./...
unit=$(go list ./... | grep -v '/cmd/e2e')
if [ -n "$race" ]; then
	# shellcheck disable=SC2086
	part "unit tests and fuzz seeds, with the race detector" go test -race -timeout 15m $unit
	part "allocation tests, without it" go test -timeout 10m -run 'Alloc' $unit
else
	# shellcheck disable=SC2086
	part "unit tests and fuzz seeds" go test -timeout 15m $unit
fi
part "whole system on the shipped binary" go test -v -timeout 15m ./cmd/e2e/...

say "" "seconds per part:$times"
[ -n "$not_run" ] && say "" "$not_run"
if [ -n "$failed" ]; then
	say "" "FAILED:$failed"
	exit 1
fi
if [ -n "$not_run" ] && [ "${CI:-}" = true ]; then
	say "" "FAILED: in CI everything has to run"
	exit 1
fi
say "" "$passed passed, 0 failed"
