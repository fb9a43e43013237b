// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package soak

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

const (
	// recoveryLimit is how soon after it is back all is as if the rack had not been down.
	recoveryLimit = 30 * time.Second
	// lookInterval is how often it is seen how things are meanwhile.
	lookInterval = time.Second
)

// outage is what was seen while the rack was down.
type outage struct {
	*world
	nodes, places, statuses map[string]string
	// deletedNodes, touched and changed count Nodes, addresses and statuses; dead the checks of
	// liveness that failed.
	deletedNodes, touched, changed, dead int
	// unready is how soon the backend was not ready, and readyAgain how often it was after that.
	unready    time.Duration
	readyAgain int
	why        string
}

// The rack refuses all connections for ten minutes, while a Node joins and a Service is created: no
// Node is deleted, no address is touched, the backend is live and not ready, and within 30 s all of
// it works.
func TestTheRackIsDown(t *testing.T) {
	const soak = "rack down"
	w := newWorld(t, options{})
	for i, name := range []string{"web", "mail", "dns"} {
		_, err := w.create(name, int32(8081+i))
		w.must(err)
	}
	w.add()
	w.await(settleLimit, w.missing)
	w.takeAway()
	before := w.rested(firstRest)
	o := &outage{world: w, nodes: w.uids(), statuses: w.statuses()}
	var err error
	o.places, err = w.addresses(w.Context())
	w.must(err)
	began := time.Now()
	w.must(w.gate.shut())
	o.last(began)
	lasted := time.Since(began)
	w.must(w.gate.open())
	ended := time.Now()
	w.await(3*recoveryLimit, w.missing)
	recovered := time.Since(ended)
	o.compare()
	results.add(t, figure{
		soak, "lasted", "", seconds(lasted), seconds(chosen.length), lasted >= chosen.length,
	})
	results.count(t, soak, "Nodes deleted", o.deletedNodes, 0)
	results.count(t, soak, "addresses touched", o.touched, 0)
	results.count(t, soak, "statuses changed", o.changed, 0)
	results.count(t, soak, "times it was not live", o.dead, 0)
	results.add(t, figure{soak, "not ready after", "", seconds(o.unready), "before the end", o.unready > 0})
	results.count(t, soak, "times it was ready after that", o.readyAgain, 0)
	results.add(t, figure{
		soak, "recovered after", "", seconds(recovered), seconds(recoveryLimit), recovered <= recoveryLimit,
	})
	t.Logf("the backend was not ready: %s", o.why)
	w.takeAway()
	w.hold(soak, before)
}

// add creates a Service and registers a Node, takeAway removes them again.
func (w *world) add() {
	w.Helper()
	_, err := w.create("new", 8090)
	w.must(err)
	_, err = w.nodes().Create(w.Context(), objects.Node(newNode), metav1.CreateOptions{})
	w.must(err)
}

func (w *world) takeAway() {
	w.Helper()
	w.must(w.remove("new"))
	w.must(w.nodes().Delete(w.Context(), newNode, metav1.DeleteOptions{}))
	w.await(settleLimit, func(ctx context.Context) (string, error) {
		_, there := w.statuses()["new"]
		places, err := w.addresses(ctx)
		if there || len(places) != 3 {
			return "the end of the new Service", err
		}
		return "", err
	})
}

// last looks until the rack was down for long enough. A third into it, a Node joins and a Service
// is created.
func (o *outage) last(began time.Time) {
	o.Helper()
	added := false
	for time.Since(began) < chosen.length {
		if !added && time.Since(began) > chosen.length/3 {
			added = true
			o.add()
		}
		o.compare()
		if process.HTTPGet(http.DefaultClient, o.ccm.HealthURL("/livez"))(o.Context()) != nil {
			o.dead++
		}
		ready, why := o.ready(o.Context())
		switch {
		case !ready && o.unready == 0:
			o.unready = time.Since(began)
		case ready && o.unready > 0:
			o.readyAgain++
		}
		o.why = why
		o.rest(lookInterval)
	}
}

// compare counts what is otherwise than before.
func (o *outage) compare() {
	o.Helper()
	places, err := o.addresses(o.Context())
	o.must(err)
	o.deletedNodes = max(o.deletedNodes, deleted(o.nodes, o.uids()))
	o.touched = max(o.touched, deleted(o.places, places))
	o.changed = max(o.changed, deleted(o.statuses, o.world.statuses()))
}

// missing returns what does not work: the backend, an address for each Service, or a Node.
func (w *world) missing(ctx context.Context) (string, error) {
	if ready, why := w.ready(ctx); !ready {
		return "that the backend is ready: " + why, nil
	}
	places, err := w.addresses(ctx)
	if err != nil {
		return "", err
	}
	statuses := w.statuses()
	for name, status := range statuses {
		if address, place, _ := strings.Cut(status, " "); place == "" {
			return "an address for " + name + ", with " + address, nil
		}
	}
	if len(places) != len(statuses) {
		return "that each Service has one address", nil
	}
	node, err := w.nodes().Get(ctx, newNode, metav1.GetOptions{})
	if err == nil && objects.HasTaint(node, objects.UninitializedTaint) {
		return "the initialization of the new Node", nil
	}
	return "", err
}

// statuses returns the addresses that the Services of type LoadBalancer say that they have.
func (w *world) statuses() map[string]string {
	w.Helper()
	list, err := w.services().List(w.Context(), metav1.ListOptions{})
	w.must(err)
	all := make(map[string]string)
	for _, service := range list.Items {
		if service.Spec.Type != "LoadBalancer" {
			continue
		}
		var addresses []string
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			addresses = append(addresses, ingress.IP)
		}
		all[service.Name] = strings.Join(addresses, " ")
	}
	return all
}

// ready returns whether the backend is ready, and why not.
func (w *world) ready(ctx context.Context) (ready bool, why string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.ccm.HealthURL("/readyz"), nil)
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

func seconds(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }
