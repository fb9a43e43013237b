// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// failoverWatcher watches an address leave a node that cannot serve it any more: what was asked of the
// rack, and what the status of the Service says meanwhile.
type failoverWatcher struct {
	*demo
	service *corev1.Service
	ip      rack.FloatingIP
	// from is the node, nodes are the nodes' names by their private addresses.
	from  string
	nodes map[string]string

	watch    watch.Interface
	statuses <-chan status
	// ingress is what the status says, told how many requests are told of.
	ingress []string
	told    int
}

// status is what the status of a Service says at a time.
type status struct {
	at      time.Time
	ingress []string
}

// newFailover watches the address of a Service that is served.
func (w *serviceWatcher) newFailover(
	ctx context.Context, service *corev1.Service,
) (*failoverWatcher, error) {
	state, err := w.rack.State(ctx)
	if err != nil {
		return nil, err
	}
	f := &failoverWatcher{demo: w.demo, service: service, nodes: map[string]string{}}
	f.ip, _ = state.FloatingIP(w.served[key(service)])
	f.from = f.ip.Instance
	for _, machine := range machines {
		f.nodes[machine.IP] = machine.Name
	}
	log, err := f.requests()
	if err != nil {
		return nil, err
	}
	f.told = len(log)
	f.watch, err = w.cluster.Client.CoreV1().Services(service.Namespace).Watch(ctx,
		metav1.ListOptions{FieldSelector: "metadata.name=" + service.Name})
	if err != nil {
		return nil, fmt.Errorf("the Service %s cannot be watched: %w", key(service), err)
	}
	f.statuses = follow(f.watch)
	return f, nil
}

// follow notes when statuses come.
func follow(w watch.Interface) <-chan status {
	statuses := make(chan status, 64)
	go func() {
		defer close(statuses)
		for event := range w.ResultChan() {
			service, ok := event.Object.(*corev1.Service)
			if !ok {
				return
			}
			one := status{at: time.Now()}
			for _, entry := range service.Status.LoadBalancer.Ingress {
				one.ingress = append(one.ingress, entry.IP)
			}
			statuses <- one
		}
	}()
	return statuses
}

// stopInstance stops the instance of the node; the time counts from when it is stopped.
func (w *failoverWatcher) stopInstance(ctx context.Context) error {
	if err := w.rack.StopInstance(ctx, w.from); err != nil {
		return fmt.Errorf("cannot stop the instance %s: %w", w.from, err)
	}
	w.console.restart()
	w.console.event(oxideRack, "instance %s is stopped; it carries %s of %s", w.from, w.ip.IP,
		key(w.service))
	return nil
}

// silenceKubelet lets the node seem to have no kubelet any more.
func (w *failoverWatcher) silenceKubelet(ctx context.Context) error {
	err := objects.SetReady(ctx, w.cluster.Client, w.from, corev1.ConditionUnknown)
	if err != nil {
		return err
	}
	w.console.restart()
	w.console.event(kubernetesAPI, "Node %s has the condition Ready=Unknown; it carries %s of %s",
		w.from, w.ip.IP, key(w.service))
	return nil
}

func (w *failoverWatcher) look(ctx context.Context) (string, error) {
	state, err := w.rack.State(ctx)
	if err != nil {
		return "", err
	}
	ip, _ := state.FloatingIP(w.ip.IP)
	statuses, err := w.newStatuses()
	if err != nil {
		return "", err
	}
	requests, err := w.newRequests(ip)
	if err != nil {
		return "", err
	}
	seen := slices.Concat(statuses, requests)
	slices.SortStableFunc(seen, func(a, b happening) int { return a.at.Compare(b.at) })
	for _, one := range seen {
		w.console.eventAt(one.at, one.where, "%s", one.what)
		if one.detail != "" {
			w.console.detail("addresses", one.detail)
		}
	}
	instance, _ := state.Instance(ip.Instance)
	switch {
	case ip.AttachState != rack.Attached || ip.Instance == w.from:
		return fmt.Sprintf("the move of %s away from %s", w.ip.IP, w.from), nil
	case !slices.Equal(w.ingress, []string{w.ip.IP, instance.PrivateIPs["v4"]}):
		return fmt.Sprintf("the status of %s that names %s alone", key(w.service), ip.Instance), nil
	}
	return "", nil
}

// happening is something to tell of.
type happening struct {
	at                  time.Time
	where, what, detail string
}

// newStatuses returns what the status of the Service has come to say. The first one is what was before.
func (w *failoverWatcher) newStatuses() ([]happening, error) {
	var all []happening
	for {
		var now status
		var open bool
		select {
		case now, open = <-w.statuses:
		default:
			return all, nil
		}
		if !open {
			return nil, errors.New("the watch of the Service " + key(w.service) + " ended")
		}
		before := w.ingress
		w.ingress = now.ingress
		if before == nil || slices.Equal(before, now.ingress) {
			continue
		}
		var names []string
		for _, address := range now.ingress {
			if name := w.nodes[address]; name != "" {
				names = append(names, name)
			}
		}
		all = append(all, happening{
			now.at, kubernetesAPI, fmt.Sprintf("the status of %s names %s", key(w.service),
				strings.Join(names, " and ")), strings.Join(now.ingress, ", "),
		})
	}
}

// newRequests returns when the rack was asked to detach or attach the address, and had done so.
func (w *failoverWatcher) newRequests(now rack.FloatingIP) ([]happening, error) {
	log, err := w.requests()
	if err != nil {
		return nil, err
	}
	var all []happening
	for _, request := range log[w.told:] {
		what := ""
		switch {
		case !request.OK():
			what = fmt.Sprintf("%s is refused (%d)", request.Operation, request.Status)
		case request.Operation == "floating_ip_detach":
			what = fmt.Sprintf("floating IP %s is detached from %s", w.ip.IP, w.from)
		case request.Operation == "floating_ip_attach" && now.AttachState != rack.Attached:
			return all, nil // the rack was asked for its state before; the next look tells
		case request.Operation == "floating_ip_attach":
			what = fmt.Sprintf("floating IP %s is attached to %s", w.ip.IP, now.Instance)
		}
		w.told++
		if what != "" {
			all = append(all, happening{request.Ended, oxideRack, what, ""})
		}
	}
	return all, nil
}

// requests returns those that were about the address.
func (w *failoverWatcher) requests() ([]rack.Request, error) {
	log, err := w.rack.Log()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(log, func(q rack.Request) bool { return q.Subject != w.ip.ID }), nil
}
