// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// linkWork is what it takes to link a program, as the size of sources that are compiled in that
// time.
const linkWork = 2 << 20

// work is what a build consists of.
type work struct {
	// sizes are those of the sources of all packages.
	sizes map[string]int64
	// stale are the packages to be compiled, as far as they were not compiled before that was found
	// out.
	stale map[string]bool
	// programs are those of them that are linked when all else is compiled.
	programs map[string]bool
}

// measurePackages finds out what a build consists of; the zero value if that fails.
func measurePackages(ctx context.Context, spec BuildSpec) work {
	const format = `{{.ImportPath}}|{{.Name}}|{{.Stale}}|{{.Dir}}|{{range .GoFiles}}{{.}} {{end}}`
	args := append([]string{"list", "-deps", "-f", format}, spec.flags()...)
	// An interrupted `go list` leaves its folder behind, unlike `go build`.
	tmp, err := os.MkdirTemp("", "oxide-build-")
	if err != nil {
		return work{}
	}
	defer os.RemoveAll(tmp)
	cmd := goCommand(ctx, spec.Dir, append(args, spec.Packages...)...)
	cmd.Env = append(cmd.Env, "GOTMPDIR="+tmp)
	cmd.SysProcAttr = ownGroup()
	out, err := cmd.Output()
	if err != nil {
		return work{}
	}
	w := work{
		sizes: make(map[string]int64), stale: make(map[string]bool), programs: make(map[string]bool),
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		if len(fields) != 5 {
			continue
		}
		path, stale := fields[0], fields[2] == "true"
		for file := range strings.FieldsSeq(fields[4]) {
			if info, err := os.Stat(filepath.Join(fields[3], file)); err == nil {
				w.sizes[path] += info.Size()
			}
		}
		if stale {
			w.stale[path] = true
		}
		if stale && fields[1] == "main" {
			w.programs[path] = true
		}
	}
	return w
}

// share returns how much of the work is done once these packages are compiled; 0 if that is not
// known.
func (w work) share(compiled []string) float64 {
	if w.sizes == nil {
		return 0
	}
	var done int64
	total := int64(len(w.programs)) * linkWork
	for _, path := range compiled {
		done += w.sizes[path]
		if !w.stale[path] {
			total += w.sizes[path]
		}
	}
	for path := range w.stale {
		total += w.sizes[path]
	}
	if total == 0 {
		return 0
	}
	return float64(done) / float64(total)
}

// isLinking reports whether all that is left once these packages are compiled is to link the
// programs.
func (w work) isLinking(compiled []string) bool {
	left := maps.Clone(w.stale)
	for _, path := range compiled {
		delete(left, path)
	}
	for path := range left {
		if !w.programs[path] {
			return false
		}
	}
	return len(w.programs) > 0
}

const (
	// leastShare of the work, and leastTime, have to be over before the rest can be estimated.
	leastShare = 0.03
	leastTime  = 5 * time.Second
)

// timeLeft estimates how long the rest takes of what has come to this share; 0 if it is too early
// for that.
func timeLeft(share float64, since time.Duration) time.Duration {
	if share < leastShare || since < leastTime {
		return 0
	}
	return time.Duration(float64(since) * (1 - share) / share)
}
