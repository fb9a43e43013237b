// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// What tests do to Services, and what users see of them. A Service is named by NAMESPACE/NAME, or
// by its name alone in the namespace default.

// prefix is that of this project's annotations.
const prefix = "oxide.computer/"

func splitKey(key string) (namespace, name string) {
	if namespace, name, found := strings.Cut(key, "/"); found {
		return namespace, name
	}
	return "default", key
}

// services returns the client for a Service, and its name.
func (e *environment) services(key string) (v1.ServiceInterface, string) {
	namespace, name := splitKey(key)
	return e.client.CoreV1().Services(namespace), name
}

// create creates a Service of type LoadBalancer.
func (e *environment) create(key string, ports ...corev1.ServicePort) {
	e.Helper()
	namespace, name := splitKey(key)
	e.createService(objects.LoadBalancer(namespace, name, ports...))
}

// createWith creates a Service of type LoadBalancer with one of our annotations.
func (e *environment) createWith(key, annotation, value string, ports ...corev1.ServicePort) {
	e.Helper()
	namespace, name := splitKey(key)
	service := objects.LoadBalancer(namespace, name, ports...)
	service.Annotations = map[string]string{prefix + annotation: value}
	e.createService(service)
}

// createService creates a Service with its status, and its namespace if there is none.
func (e *environment) createService(service *corev1.Service) {
	e.Helper()
	_, err := e.client.CoreV1().Namespaces().Create(e.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: service.Namespace},
	}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		e.must(err)
	}
	services := e.client.CoreV1().Services(service.Namespace)
	_, err = services.Create(e.Context(), service, metav1.CreateOptions{})
	e.must(err)
	if len(service.Status.LoadBalancer.Ingress) > 0 {
		e.writeStatus(service.Namespace+"/"+service.Name, service.Status)
	}
}

// writeStatus writes a whole status of a Service, as the framework does.
func (e *environment) writeStatus(key string, status corev1.ServiceStatus) {
	e.Helper()
	services, name := e.services(key)
	e.must(objects.Change(e.Context(), name, services.Get, services.UpdateStatus,
		func(service *corev1.Service) { service.Status = status }))
}

// annotate sets one of our annotations of a Service, or with an empty value removes it.
func (e *environment) annotate(key, annotation, value string) {
	e.Helper()
	e.annotateAll(key, annotation, value)
}

// annotateAll sets some of our annotations of a Service at once, names and values in turn, or with an
// empty value removes one.
func (e *environment) annotateAll(key string, pairs ...string) {
	e.Helper()
	set := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		set[prefix+pairs[i]] = nil
		if pairs[i+1] != "" {
			set[prefix+pairs[i]] = pairs[i+1]
		}
	}
	e.patch(key, map[string]any{"metadata": map[string]any{"annotations": set}})
}

// patch changes a Service by a merge patch.
func (e *environment) patch(key string, patch map[string]any) {
	e.Helper()
	text, err := json.Marshal(patch)
	e.must(err)
	services, name := e.services(key)
	_, err = services.Patch(e.Context(), name, types.MergePatchType, text, metav1.PatchOptions{})
	e.must(err)
}

func (e *environment) service(key string) *corev1.Service {
	e.Helper()
	services, name := e.services(key)
	service, err := services.Get(e.Context(), name, metav1.GetOptions{})
	e.must(err)
	return service
}

// remove deletes a Service and waits until it is gone.
func (e *environment) remove(key string) {
	e.Helper()
	e.removeAll(key)
}

// removeAll deletes Services together, and waits until all of them are gone.
func (e *environment) removeAll(keys ...string) {
	e.Helper()
	for _, key := range keys {
		services, name := e.services(key)
		e.must(services.Delete(e.Context(), name, metav1.DeleteOptions{}))
	}
	for _, key := range keys {
		services, name := e.services(key)
		e.eventually(func(ctx context.Context) (string, error) {
			_, err := services.Get(ctx, name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return "", nil
			}
			return "the end of the Service " + key, err
		})
	}
}

// nextSecond waits until what is created now is younger than what was created before: creation
// times are whole seconds.
func (e *environment) nextSecond() {
	e.Helper()
	before := time.Now().Unix()
	e.eventually(func(context.Context) (string, error) {
		if time.Now().Unix() == before {
			return "the next second", nil
		}
		return "", nil
	})
}

// served waits until a Service's status tells the truth: the floating IP and the private IP of the
// instance that it is attached to, in this order, both with ipMode VIP. It returns the floating IP.
func (e *environment) served(key string) (address string) {
	e.Helper()
	e.eventually(func(ctx context.Context) (missing string, err error) {
		address, missing, err = e.truth(ctx, key)
		return missing, err
	})
	return address
}

// truth returns the address of a Service, and what is missing for its status to tell the truth.
func (e *environment) truth(ctx context.Context, key string) (address, missing string, err error) {
	services, name := e.services(key)
	service, err := services.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", "", err
	}
	state, err := e.rack.State(ctx)
	if err != nil {
		return "", "", err
	}
	address, missing = wrongStatus(service, state)
	return address, missing, nil
}

// wrongStatus says what is missing for the status of a Service to tell the truth.
func wrongStatus(service *corev1.Service, state rack.State) (address, missing string) {
	ingress := service.Status.LoadBalancer.Ingress
	if len(ingress) == 0 {
		return "", "the status of the Service " + service.Name
	}
	address = ingress[0].IP
	vip := corev1.LoadBalancerIPModeVIP
	var want, private []corev1.LoadBalancerIngress
	for _, each := range ingress {
		ip, found := state.FloatingIP(each.IP)
		if !found && len(want) > 0 {
			continue
		}
		if ip.AttachState != rack.Attached {
			return address, fmt.Sprintf("the attachment of %s, got %+v", each.IP, ip)
		}
		instance, _ := state.Instance(ip.Instance)
		want = append(want, corev1.LoadBalancerIngress{IP: each.IP, IPMode: &vip})
		private = append(private,
			corev1.LoadBalancerIngress{IP: instance.PrivateIPs[version(each.IP)], IPMode: &vip})
	}
	if diff := cmp.Diff(append(want, private...), ingress); diff != "" {
		return address, "another status of the Service " + service.Name + " (-want +got): " + diff
	}
	return address, ""
}

// version returns the IP version of an address, as the rack names it.
func version(address string) string {
	if addr, err := netip.ParseAddr(address); err == nil && addr.Is6() {
		return "v6"
	}
	return "v4"
}

// servedBy waits until a Service is served with this address.
func (e *environment) servedBy(key, address string) {
	e.Helper()
	e.eventually(func(ctx context.Context) (string, error) {
		got, missing, err := e.truth(ctx, key)
		if err == nil && missing == "" && got != address {
			missing = fmt.Sprintf("the address %s of %s, got %s", address, key, got)
		}
		return missing, err
	})
}

// nodeOf returns the name of the instance that carries an address.
func (e *environment) nodeOf(address string) string {
	e.Helper()
	ip, found := e.state().FloatingIP(address)
	if !found || ip.AttachState != rack.Attached {
		e.Fatalf("%s is attached nowhere: %+v", address, ip)
	}
	return ip.Instance
}

// reserved waits until a Service has an address that is attached nowhere, and an empty status. It
// returns the address.
func (e *environment) reserved(key string) (address string) {
	e.Helper()
	namespace, name := splitKey(key)
	e.eventually(func(ctx context.Context) (string, error) {
		state, err := e.rack.State(ctx)
		if err != nil {
			return "", err
		}
		for _, ip := range state.FloatingIPs {
			if strings.Contains(ip.Description, " name="+namespace+"/"+name+" ") {
				if ip.AttachState != rack.Detached {
					return fmt.Sprintf("the detachment of %+v", ip), nil
				}
				address = ip.IP
				return "", nil
			}
		}
		return "an address that is reserved for " + key, nil
	})
	if ingress := e.service(key).Status.LoadBalancer.Ingress; len(ingress) != 0 {
		e.Errorf("%s is attached nowhere, and the status of %s is %v", address, key, ingress)
	}
	return address
}

// warnings returns the warnings on a Service that have a reason and all these words.
func (e *environment) warnings(
	ctx context.Context, service *corev1.Service, reason string, words ...string,
) ([]corev1.Event, error) {
	return e.eventsOn(ctx, service, ",type=Warning,reason="+reason, words...)
}

// eventsOn returns the events on a Service that have all these words, and of which more holds,
// which is a further part of a field selector.
func (e *environment) eventsOn(
	ctx context.Context, service *corev1.Service, more string, words ...string,
) ([]corev1.Event, error) {
	list, err := e.client.CoreV1().Events(service.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.uid=" + string(service.UID) + more,
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(event corev1.Event) bool {
		return slices.ContainsFunc(words, func(word string) bool {
			return !strings.Contains(event.Message, word)
		})
	}), nil
}

const (
	// syncFailed is the reason of the framework's event when a Service cannot be given what it
	// wants.
	syncFailed = "SyncLoadBalancerFailed"

	// Reasons of our own events for an address that is attached nowhere.
	portConflict = "PortConflict"
	noCandidate  = "NoCandidate"
)

// warned waits until a Service has a warning with these words, and checks that it is one, in one
// line that people can read. It returns its text.
func (e *environment) warned(key, reason string, words ...string) string {
	e.Helper()
	service := e.service(key)
	var found []corev1.Event
	e.eventually(func(ctx context.Context) (string, error) {
		var err error
		if found, err = e.warnings(ctx, service, reason, words...); err != nil || len(found) > 0 {
			return "", err
		}
		others, err := e.warnings(ctx, service, reason)
		return fmt.Sprintf("an event %s on %s that says %q, got %q", reason, key, words,
			messages(others)), err
	})
	text := found[0].Message
	e.Logf("%s: %s: %s", key, reason, text)
	if len(found) > 1 {
		e.Errorf("%d events say the same: %q", len(found), messages(found))
	}
	for _, never := range []string{"\n", "http", "rpc error", "code ="} {
		if strings.Contains(text, never) {
			e.Errorf("%q is in the event %q", never, text)
		}
	}
	return text
}

// unchanging checks that the status of a Service is at no moment another one while something is
// done.
func (e *environment) unchanging(key string, do func()) {
	e.Helper()
	e.unchangingPart(key, func(status corev1.ServiceStatus) any { return status }, do)
}

// keepsPublishing checks that a Service publishes the same addresses at every moment while something is
// done, whatever its conditions say of it.
func (e *environment) keepsPublishing(key string, do func()) {
	e.Helper()
	e.unchangingPart(key, func(status corev1.ServiceStatus) any { return status.LoadBalancer }, do)
}

// unchangingPart checks that a part of the status of a Service is at no moment another one while something
// is done.
func (e *environment) unchangingPart(key string, part func(corev1.ServiceStatus) any, do func()) {
	e.Helper()
	before := e.service(key)
	services, name := e.services(key)
	ctx, cancel := context.WithCancel(e.Context())
	watcher, err := services.Watch(ctx, metav1.ListOptions{
		FieldSelector: "metadata.name=" + name, ResourceVersion: before.ResourceVersion,
	})
	e.must(err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for event := range watcher.ResultChan() {
			service, ok := event.Object.(*corev1.Service)
			if !ok {
				continue
			}
			if diff := cmp.Diff(part(before.Status), part(service.Status)); diff != "" {
				e.Errorf("for a moment the status of %s is another one (-want +got):\n%s", key, diff)
			}
		}
	}()
	do()
	cancel()
	<-ended
}
