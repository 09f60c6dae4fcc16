#!/bin/sh
# Checks that the tools named as arguments are here and new enough, and names every one that is not.
set -u
missing=""
need() { missing="$missing
  $1"; }

newer() { # newer HAVE WANT: HAVE >= WANT, both of the form major.minor
	[ "$(printf '%s\n%s\n' "$2" "$1" | sort -t. -k1,1n -k2,2n | head -n 1)" = "$2" ]
}

for tool in "$@"; do
	case $tool in
	go)
		want=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
		have=$(go env GOVERSION 2>/dev/null | sed 's/^go//; s/^\([0-9]*\.[0-9]*\).*/\1/')
		if [ -z "$have" ]; then need "Go $want or newer (https://go.dev/dl)"
		elif ! newer "$have" "$want"; then need "Go $want or newer: this is $have (https://go.dev/dl)"; fi ;;
	make)
		command -v make >/dev/null || need "make" ;;
	node)
		have=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\.[0-9]*\).*/\1/')
		if [ -z "$have" ]; then need "Node.js 18 or newer, with npm (https://nodejs.org)"
		elif ! newer "$have" 18.0; then need "Node.js 18 or newer: this is $have (https://nodejs.org)"; fi
		command -v npm >/dev/null || need "npm (comes with Node.js)" ;;
	esac
done
[ -z "$missing" ] && exit 0
printf 'waymark: this machine lacks:%s\n' "$missing" >&2
exit 1
