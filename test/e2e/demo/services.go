// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package demo

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// serviceWatcher watches Services get their addresses.
type serviceWatcher struct {
	*demo
	all []*corev1.Service
	ips *rackWatcher
	// served holds the floating IP of each Service, by key, once its status tells of it.
	served map[string]string
}

func (d *demo) newServices(services ...*corev1.Service) *serviceWatcher {
	return &serviceWatcher{
		demo: d, all: services, served: map[string]string{},
		ips: &rackWatcher{demo: d, seen: map[string]rack.FloatingIP{}},
	}
}

func (w *serviceWatcher) create(ctx context.Context) error {
	for _, service := range w.all {
		_, err := w.cluster.Client.CoreV1().Services(service.Namespace).Create(ctx, service,
			metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("cannot create the Service %s: %w", key(service), err)
		}
		ports := make([]string, 0, len(service.Spec.Ports))
		for _, port := range service.Spec.Ports {
			ports = append(ports, fmt.Sprintf("%s %d", port.Protocol, port.Port))
		}
		w.console.event(kubernetesAPI, "Service %s created (%s)", key(service),
			strings.Join(ports, ", "))
	}
	return nil
}

func (w *serviceWatcher) look(ctx context.Context) (string, error) {
	// The rack first: what a status tells is there before the status.
	if _, err := w.ips.look(ctx); err != nil {
		return "", err
	}
	var missing []string
	for _, service := range w.all {
		if w.served[key(service)] != "" {
			continue
		}
		now, err := w.getService(ctx, service)
		if err != nil {
			return "", err
		}
		if now == nil {
			return "", fmt.Errorf("the Service %s is gone", key(service))
		}
		state, err := w.ips.look(ctx)
		if err != nil {
			return "", err
		}
		if lack := unserved(now, state); lack != "" {
			missing = append(missing, lack)
			continue
		}
		w.served[key(service)] = now.Status.LoadBalancer.Ingress[0].IP
		w.tell(now, state)
	}
	return strings.Join(missing, ", "), nil
}

// unserved compares a Service's status with the rack. It names what is missing: the floating IP,
// attached to a running instance, and that instance's private IP, both with ipMode VIP.
func unserved(service *corev1.Service, state rack.State) string {
	ingress := service.Status.LoadBalancer.Ingress
	if len(ingress) == 0 {
		return "the addresses in the status of the Service " + key(service)
	}
	for _, entry := range ingress {
		if entry.IPMode == nil || *entry.IPMode != corev1.LoadBalancerIPModeVIP {
			return "the ipMode VIP in the status of the Service " + key(service)
		}
	}
	ip, found := state.FloatingIP(ingress[0].IP)
	if !found || ip.AttachState != rack.Attached {
		return "the attached floating IP " + ingress[0].IP + " on the rack"
	}
	instance, _ := state.Instance(ip.Instance)
	private := instance.PrivateIPs["v4"]
	if len(ingress) != 2 || ingress[1].IP != private {
		return fmt.Sprintf("the private IP %s of %s in the status of the Service %s", private,
			ip.Instance, key(service))
	}
	return ""
}

func (w *serviceWatcher) tell(service *corev1.Service, state rack.State) {
	ingress := service.Status.LoadBalancer.Ingress
	ip, _ := state.FloatingIP(ingress[0].IP)
	w.console.event(kubernetesAPI, "Service %s has its addresses in its status", key(service))
	for i, what := range []string{"the floating IP", "the private IP of " + ip.Instance} {
		w.console.detail(ingress[i].IP, fmt.Sprintf("%s (ipMode %s)", what, *ingress[i].IPMode))
	}
}

// newRemoval watches a Service go, and its floating IP with it, while all others stay.
func (w *serviceWatcher) newRemoval(service *corev1.Service) *removalWatcher {
	return &removalWatcher{serviceWatcher: w, service: service}
}

type removalWatcher struct {
	*serviceWatcher
	service *corev1.Service
	gone    bool
}

func (w *removalWatcher) delete(ctx context.Context) error {
	err := w.cluster.Client.CoreV1().Services(w.service.Namespace).Delete(ctx, w.service.Name,
		metav1.DeleteOptions{})
	if err != nil {
		return fmt.Errorf("cannot delete the Service %s: %w", key(w.service), err)
	}
	w.console.event(kubernetesAPI, "Service %s is to be deleted", key(w.service))
	return nil
}

func (w *removalWatcher) look(ctx context.Context) (string, error) {
	// Before the rack: the address has to be gone when the Service is.
	now, err := w.getService(ctx, w.service)
	if err != nil {
		return "", err
	}
	state, err := w.ips.look(ctx)
	if err != nil {
		return "", err
	}
	mine := w.served[key(w.service)]
	_, found := state.FloatingIP(mine)
	switch {
	case now == nil && found:
		return "", fmt.Errorf("the Service %s is gone and its floating IP %s is not",
			key(w.service), mine)
	case found:
		return "the end of the floating IP " + mine, nil
	case now != nil:
		return "the end of the Service " + key(w.service), nil
	}
	if !w.gone {
		w.gone = true
		w.console.event(kubernetesAPI, "Service %s is gone", key(w.service))
	}
	return "", w.othersServed(ctx)
}

// othersServed fails if another Service lost its address.
func (w *removalWatcher) othersServed(ctx context.Context) error {
	state, err := w.rack.State(ctx)
	if err != nil {
		return err
	}
	for _, service := range w.all {
		if key(service) == key(w.service) {
			continue
		}
		now, err := w.getService(ctx, service)
		if err != nil {
			return err
		}
		if now == nil || unserved(now, state) != "" ||
			now.Status.LoadBalancer.Ingress[0].IP != w.served[key(service)] {
			return fmt.Errorf("the Service %s lost its address %s", key(service),
				w.served[key(service)])
		}
		w.console.event(oxideRack, "floating IP %s of %s is where it was",
			w.served[key(service)], key(service))
	}
	return nil
}

// rackWatcher tells what happens to the floating IPs on the rack.
type rackWatcher struct {
	*demo
	seen map[string]rack.FloatingIP // by id
}

func (w *rackWatcher) look(ctx context.Context) (rack.State, error) {
	state, err := w.demo.rack.State(ctx)
	if err != nil {
		return rack.State{}, err
	}
	there := map[string]bool{}
	for _, ip := range state.FloatingIPs {
		there[ip.ID] = true
		before, known := w.seen[ip.ID]
		w.seen[ip.ID] = ip
		if !known {
			w.console.event(oxideRack, "floating IP %s created", ip.IP)
			w.console.detail("name", ip.Name)
			w.console.detail("description", ip.Description)
		}
		if ip.AttachState != before.AttachState {
			w.tell(ip, before, known)
		}
	}
	for id, ip := range w.seen {
		if !there[id] {
			delete(w.seen, id)
			w.console.event(oxideRack, "floating IP %s is deleted", ip.IP)
		}
	}
	return state, nil
}

func (w *rackWatcher) tell(ip, before rack.FloatingIP, known bool) {
	switch {
	case ip.AttachState == rack.Attached:
		w.console.event(oxideRack, "floating IP %s attached to %s", ip.IP, ip.Instance)
	case ip.Instance == "" && known:
		w.console.event(oxideRack, "floating IP %s detached from %s", ip.IP, before.Instance)
	}
}
