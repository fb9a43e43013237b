// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

// The limits that every row is held against.
const (
	// recoveryLimit is how soon after the fault all is as if it had not been.
	recoveryLimit = 30 * time.Second
	// linesLimit is how many lines each program may log in a minute, however many nodes there are. The
	// shim's framework logs one for each event besides, and linesPerStart when it is started again.
	linesLimit, linesPerStart = 60, 120
	// eventsLimit is how many events may be recorded in a minute, besides two for each Node that is not
	// ready: an event is about one object.
	eventsLimit, eventsPerNode = 20, 2
)

// figures are what was measured of a row, and which limits it broke.
type figures struct {
	row
	lasted          time.Duration
	nodesDeleted    int
	touched         int
	writes          int
	live            bool
	readyAtEnd      bool
	why             string
	restarts        int
	recovered       time.Duration
	backendLines    float64
	shimLines       float64
	events          float64
	broken          []string
	logs            string
	skipped, failed error
}

func (f *figures) breaks(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(f.broken, text) {
		f.broken = append(f.broken, text)
	}
}

// play lets a fault happen in a world that has settled, for so long.
func (w *world) play(ctx context.Context, r row, lasts time.Duration) (*figures, error) {
	f := &figures{row: r, live: true, logs: w.group.LogDir()}
	first, err := w.look(ctx)
	if err != nil {
		return f, err
	}
	events, err := w.countEvents(ctx)
	if err != nil {
		return f, err
	}
	// The fault may be in the way of its own end.
	if err := r.begin(ctx, w); err != nil {
		return f, err
	}
	began, backend, shim := time.Now(), lines(w.ccm.Backend), lines(w.ccm.Shim)
	if err := w.during(ctx, f, first, began, lasts); err != nil {
		return f, errors.Join(err, r.end(ctx, w))
	}
	ended := time.Now()
	minutes := max(ended.Sub(began), time.Minute).Minutes()
	f.lasted = ended.Sub(began)
	f.backendLines = float64(lines(w.ccm.Backend)-backend) / minutes
	f.shimLines = float64(lines(w.ccm.Shim)-shim) / minutes
	if err := r.end(ctx, w); err != nil {
		return f, err
	}
	ended = time.Now()
	if err := w.recover(ctx, f, first, ended); err != nil {
		return f, err
	}
	after, err := w.countEvents(ctx)
	if err != nil {
		return f, err
	}
	f.events = float64(after-events) / max(time.Since(began), time.Minute).Minutes()
	return f, w.judge(f, began, ended)
}

// sampleInterval is how often it is seen how things are, while a fault lasts.
const sampleInterval = 500 * time.Millisecond

// during compares while the fault lasts. A third into it, a Node joins and a Service is created.
func (w *world) during(
	ctx context.Context, f *figures, first snapshot, began time.Time, lasts time.Duration,
) error {
	ticker := time.NewTicker(sampleInterval)
	defer ticker.Stop()
	added := f.blind
	for range ticker.C {
		if since := time.Since(began); !added && since > lasts/3 {
			added = true
			if err := w.add(ctx); err != nil {
				return err
			}
		} else if since > lasts {
			return nil
		}
		if err := w.compare(ctx, f, first); err != nil {
			return err
		}
		f.sample(ctx, w)
	}
	return nil
}

// add creates a Service, and registers a Node.
func (w *world) add(ctx context.Context) error {
	return errors.Join(w.register(ctx, newNode), w.createService(ctx, newService, objects.TCP(8090)))
}

// compare holds that everything is still there that was.
func (w *world) compare(ctx context.Context, f *figures, first snapshot) error {
	state, err := w.rack.State(ctx)
	if err != nil {
		return err
	}
	for _, each := range changed(first.addresses, places(state)) {
		f.touched++
		f.breaks("an address was touched: %s", each)
	}
	if f.blind {
		return nil
	}
	return w.compareCluster(ctx, f, first)
}

func (w *world) compareCluster(ctx context.Context, f *figures, first snapshot) error {
	now, err := w.look(ctx)
	if err != nil {
		return err
	}
	deleted := changed(first.nodes, now.nodes)
	f.nodesDeleted = max(f.nodesDeleted, len(deleted))
	if len(deleted) > 0 {
		f.breaks("%d Nodes were deleted", len(deleted))
	}
	for _, each := range changed(first.statuses, now.statuses) {
		f.breaks("the status of a Service changed: %s", each)
	}
	return nil
}

// sample asks the backend whether it is live and ready.
func (f *figures) sample(ctx context.Context, w *world) {
	if err := process.HTTPGet(http.DefaultClient, w.ccm.HealthURL("/livez"))(ctx); err != nil {
		f.live = false
		f.breaks("the backend is not live: %v", err)
	}
	f.readyAtEnd, f.why = readyz(ctx, w.ccm.HealthURL("/readyz"))
	if f.ready == kept && !f.readyAtEnd {
		f.breaks("the backend is not ready: %s", f.why)
	}
}

// readyz returns whether a backend is ready, and why not.
func readyz(ctx context.Context, url string) (ready bool, why string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err.Error()
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err.Error()
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	return response.StatusCode == http.StatusOK, strings.TrimSpace(string(text))
}

// recover waits until all is as it has to be, and measures how long that takes.
func (w *world) recover(ctx context.Context, f *figures, first snapshot, ended time.Time) error {
	if f.blind {
		if err := w.add(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*recoveryLimit)
	defer cancel()
	if err := w.rack.StopInstance(ctx, probed); err != nil {
		return err
	}
	missing := ""
	err := process.Await(ctx, func(ctx context.Context) (bool, error) {
		now, err := w.look(ctx)
		if err != nil {
			return false, err
		}
		ready, why := readyz(ctx, w.ccm.HealthURL("/readyz"))
		switch {
		case !ready:
			missing = "that the backend is ready: " + why
		case now.served[newService] == "":
			missing = "an address for the new Service"
		case !now.initialized[newNode]:
			missing = "the initialization of the new Node"
		case !w.watchSees():
			missing = "that the watch notices a stopped instance"
		default:
			missing = ""
		}
		return missing == "", nil
	})
	f.recovered = time.Since(ended)
	if ctx.Err() != nil {
		f.breaks("after %s still missing: %s", 3*recoveryLimit, missing)
	} else if err != nil {
		return err
	}
	if f.recovered > recoveryLimit {
		f.breaks("it took %s to recover, and may take %s", f.recovered.Round(time.Second), recoveryLimit)
	}
	f.blind = false
	if err := w.compare(context.WithoutCancel(ctx), f, first); err != nil {
		return err
	}
	state, err := w.rack.State(context.WithoutCancel(ctx))
	if want := len(before) + 1; err == nil && len(state.FloatingIPs) != want {
		f.breaks("there are %d floating IPs, not %d", len(state.FloatingIPs), want)
	}
	return err
}

// changes matches the operations that change something on the rack.
var changes = regexp.MustCompile(`_(create|update|delete|attach|detach)$`)

// judge holds what was measured against the limits.
func (w *world) judge(f *figures, began, ended time.Time) error {
	requests, err := w.rack.Log()
	if err != nil {
		return err
	}
	for _, q := range requests {
		if q.Ended.Before(began) || q.Began.After(ended) || !changes.MatchString(q.Operation) {
			continue
		}
		f.writes++
		if strings.HasSuffix(q.Operation, "_detach") || strings.HasSuffix(q.Operation, "_delete") {
			f.breaks("%s was asked for, with status %d", q.Operation, q.Status)
		}
	}
	if lost := w.watchLost(); len(lost) > 0 {
		f.breaks("the watch said of %d instances that they are no longer listed", len(lost))
	}
	if f.restarts, err = w.shim.count(); err != nil {
		return err
	}
	if f.restarts > 0 && !f.row.restarts {
		f.breaks("the shim ended %d times", f.restarts)
	}
	if err := w.ccm.Backend.Err(); err != nil {
		f.breaks("%v", err)
	}
	if f.ready == lost {
		if f.readyAtEnd {
			f.breaks("the backend says that it is ready")
		} else if !regexp.MustCompile(f.says).MatchString(f.why) {
			f.breaks("the backend is not ready, but does not say %q: %s", f.says, f.why)
		}
	}
	f.judgeRates(len(w.unready))
	return nil
}

func (f *figures) judgeRates(unready int) {
	if f.backendLines > linesLimit {
		f.breaks("the backend logs %.0f lines a minute, and may %d", f.backendLines, linesLimit)
	}
	if limit := linesLimit + f.events + float64(linesPerStart*f.restarts); f.shimLines > limit {
		f.breaks("the shim logs %.0f lines a minute, and may %.0f", f.shimLines, limit)
	}
	if limit := eventsLimit + eventsPerNode*unready; f.events > float64(limit) {
		f.breaks("%.0f events a minute are recorded, and %d may be", f.events, limit)
	}
}

// lines counts what a program has logged.
func lines(p *process.Process) int {
	text, err := os.ReadFile(p.LogFile())
	if err != nil {
		return 0
	}
	return bytes.Count(text, []byte("\n"))
}

// countEvents counts how often events were recorded.
func (w *world) countEvents(ctx context.Context) (int, error) {
	list, err := w.client().CoreV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	n := 0
	for _, event := range list.Items {
		n += int(max(event.Count, 1))
	}
	return n, nil
}
