// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package soak

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

const (
	// restTime is how long everything rests before it is measured, and firstRest the first time: a
	// program that has just started takes some collections of its memory until it has what it needs.
	restTime, firstRest = time.Minute, 3 * time.Minute
	// window is how long is looked at for the least, once in a second.
	window = 10
	// flatLimit is how long after the rest it may take until all is as before.
	flatLimit = time.Minute
	// growthLimit is by how much the resident memory of a program may grow, in MB.
	growthLimit = 5
)

// usage is what a program has.
type usage struct {
	goroutines, files int
	residentMB        float64
}

// least returns the lesser of each.
func least(a, b usage) usage {
	return usage{
		min(a.goroutines, b.goroutines), min(a.files, b.files), min(a.residentMB, b.residentMB),
	}
}

// both is what both programs have.
type both struct{ backend, shim usage }

// anyone is who asks for metrics. The shim signs its own certificate, and nothing secret is asked
// for.
var anyone = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
	TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	DisableKeepAlives: true,
}}

// use measures both programs at this moment.
func (w *world) use(ctx context.Context) (b both, err error) {
	if b.backend, err = useOf(ctx, w.ccm.Backend, "http://"+w.metrics+"/metrics"); err != nil {
		return b, err
	}
	b.shim, err = useOf(ctx, w.ccm.Shim, w.ccm.ShimURL("/metrics"))
	return b, err
}

func useOf(ctx context.Context, p *process.Process, url string) (u usage, err error) {
	if u.goroutines, err = goroutines(ctx, url); err != nil {
		return u, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))
	if err != nil {
		return u, err
	}
	u.files = len(files)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			u.residentMB = kib * 1024 / 1e6
			return u, err
		}
	}
	return u, fmt.Errorf("process %d has no resident memory", p.PID())
}

// goroutines returns how many goroutines a program counts.
func goroutines(ctx context.Context, url string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := anyone.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			return strconv.Atoi(value)
		}
	}
	return 0, fmt.Errorf("%s answers %s without go_goroutines: %w", url, response.Status, lines.Err())
}

// rested returns what both programs have after a rest.
func (w *world) rested(rest time.Duration) both {
	w.Helper()
	w.rest(rest)
	return w.window()
}

// window returns the least that both programs have in the next ten seconds. What they keep of
// connections to the rack, up to 16 for 90 s after they were used, is closed before: how many
// depends on the moment.
func (w *world) window() (all both) {
	w.Helper()
	w.gate.dropIdle()
	http.DefaultClient.CloseIdleConnections()
	for i := range window {
		w.rest(time.Second)
		now, err := w.use(w.Context())
		w.must(err)
		if i == 0 {
			all = now
			continue
		}
		all = both{least(all.backend, now.backend), least(all.shim, now.shim)}
	}
	return all
}

// hold measures both programs after a rest, and holds them against what they had before.
func (w *world) hold(soak string, before both) {
	w.Helper()
	after := w.rested(restTime)
	for deadline := time.Now().Add(flatLimit); time.Now().Before(deadline) &&
		(!flat(before.backend, after.backend) || !flat(before.shim, after.shim)); {
		after = w.window()
	}
	for _, program := range []struct {
		name          string
		before, after usage
	}{{"backend", before.backend, after.backend}, {"shim", before.shim, after.shim}} {
		was, is := program.before, program.after
		for _, f := range []figure{
			{
				name: "goroutines", before: strconv.Itoa(was.goroutines), after: strconv.Itoa(is.goroutines),
				limit: strconv.Itoa(was.goroutines), holds: is.goroutines <= was.goroutines,
			},
			{
				name: "file descriptors", before: strconv.Itoa(was.files), after: strconv.Itoa(is.files),
				limit: strconv.Itoa(was.files), holds: is.files <= was.files,
			},
			{
				name: "RSS", before: mb(was.residentMB), after: mb(is.residentMB),
				limit: "< " + mb(was.residentMB+growthLimit), holds: is.residentMB < was.residentMB+growthLimit,
			},
		} {
			f.soak, f.name = soak, program.name+": "+f.name
			results.add(w.T, f)
		}
	}
}

// flat reports whether a program has no more than before.
func flat(before, after usage) bool {
	return after.goroutines <= before.goroutines && after.files <= before.files &&
		after.residentMB < before.residentMB+growthLimit
}

func mb(n float64) string { return fmt.Sprintf("%.1f MB", n) }
