#!/bin/sh
# Fetches the embedded ClickHouse engine once, into a cache outside the checkout that all checkouts share, and prints the
# library's path. ENGINE=<path> uses one that is already there, ENGINE=none uses none. Everything but the path goes to stderr.
set -u
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/.*"@chdb\/lib-linux-x64-gnu": "\([0-9.]*\)".*/\1/p' "$here/package.json")
size=559044752
cache=${WAYMARK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/waymark}
dir=$cache/chdb-$version
library=$dir/libchdb.so
ways="the ways on: make run ENGINE=<path of libchdb.so>, or waymark up --clickhouse clickhouse://host:9000 for a server"

say() { printf 'waymark: %s\n' "$*" >&2; }
die() { say "$*; $ways"; exit 1; }

case ${ENGINE:-} in
none) echo none; exit 0 ;;
?*)
	[ -f "$ENGINE" ] || die "there is no file ENGINE=$ENGINE"
	cd "$(dirname "$ENGINE")" && printf '%s/%s\n' "$(pwd)" "$(basename "$ENGINE")"
	exit ;;
esac

have_size() { [ -f "$library" ] && wc -c <"$library" | tr -d ' '; }

if [ "$(have_size)" = "$size" ]; then
	printf '%s\n' "$library"
	exit 0
fi

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || die "the embedded engine needs Linux on x86-64, this is $(uname -s) on $(uname -m)"
[ -e /lib64/ld-linux-x86-64.so.2 ] || die "the embedded engine needs glibc, this system has another C library"
grep -q -m 1 -w avx2 /proc/cpuinfo || die "the embedded engine needs a processor with AVX2"
command -v npm >/dev/null || die "npm is needed to fetch the embedded engine (it comes with Node.js 18 or newer)"
sh "$here/../../.ci/tools.sh" node || die "npm is needed to fetch the embedded engine"

mkdir -p "$cache" || die "cannot make the cache folder $cache"
free=$(df -Pk "$cache" | awk 'NR == 2 { print $4 }')
[ "$free" -gt 1500000 ] || die "the engine needs 1.5 GB of free space under $cache while it is unpacked, there are $((free / 1024)) MB"

# One at a time: a second checkout waits and then finds the library.
exec 9>"$cache/fetch.lock"
if command -v flock >/dev/null && ! flock -n 9; then
	say "another process is fetching the engine, waiting for it"
	flock 9
fi
if [ "$(have_size)" = "$size" ]; then
	printf '%s\n' "$library"
	exit 0
fi

say "fetching the embedded ClickHouse engine $version: 167 MB to download once, 559 MB on disk in $dir"
work=$(mktemp -d "$cache/fetch.XXXXXX") || die "cannot write to $cache"
watcher=""
# What is half-way here is removed; npm's own cache keeps what was downloaded whole.
clean() { [ -n "$watcher" ] && kill "$watcher" 2>/dev/null; rm -rf "$work"; }
trap clean EXIT
trap 'exit 130' INT TERM

progress() {
	while sleep 2; do
		mb=$(du -sm "$work" 2>/dev/null | cut -f 1)
		say "  ${mb:-0} of about 560 MB unpacked"
	done
}

attempt=1
while :; do
	cp "$here/package.json" "$here/package-lock.json" "$work/"
	progress & watcher=$!
	if (cd "$work" && npm ci --ignore-scripts --no-audit --no-fund --prefer-offline --fetch-retries 4 --loglevel error) >"$work/npm.log" 2>&1; then
		kill "$watcher" 2>/dev/null; watcher=""
		break
	fi
	kill "$watcher" 2>/dev/null; watcher=""
	reason=$(grep -v '^npm warn' "$work/npm.log" | sed -n 's/^npm error //p' | head -n 1)
	[ "$attempt" -lt 3 ] || die "cannot fetch the embedded engine: ${reason:-npm failed}"
	say "fetching failed (${reason:-npm failed}), trying again"
	attempt=$((attempt + 1))
	sleep $((attempt * 2))
done

fetched=$work/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so
got=$(wc -c <"$fetched" 2>/dev/null | tr -d ' ')
[ "$got" = "$size" ] || die "the fetched engine has ${got:-no} bytes, want $size"
mkdir -p "$dir" && mv -f "$fetched" "$library" || die "cannot move the engine to $dir"
say "the engine is here: $library"
printf '%s\n' "$library"
