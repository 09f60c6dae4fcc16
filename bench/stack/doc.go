// Package stack starts what is measured as real processes, on free ports and on the CPUs that it is told, reads what they
// use from /proc, and stops them: the shipped waymark binary, nginx, and the bare server, which is part of this package
// and run by the binary too.
//
// A process is killed when the harness dies. Its output goes to a file beside its data; when it fails to start, the last
// lines of that file are the error.
package stack
