// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// operation is something that happens. All that is random in it is decided before it runs, by nothing
// but the seed and the operations before it: so a seed gives the same operations again, though not
// the same timing.
type operation struct {
	text string
	run  func(ctx context.Context, before snapshot, st *step) error
}

// kind makes operations of one kind; false: there is nothing now that it could happen to.
type kind struct {
	weight int
	choose func(w *world) (operation, bool)
}

// kinds are all kinds of operations.
func kinds() []kind {
	return slices.Concat(serviceKinds(), shapeKinds(), firewallKinds(), nodeKinds(), cordonKinds(),
		peopleKinds(), programKinds())
}

// next chooses an operation.
func (w *world) next() operation {
	all := kinds()
	total := 0
	for _, k := range all {
		total += k.weight
	}
	for {
		at := w.random.IntN(total)
		for _, k := range all {
			if at -= k.weight; at >= 0 {
				continue
			}
			if o, ok := k.choose(w); ok {
				return o
			}
			break
		}
	}
}

// pick chooses one of the names; false: there is none.
func (w *world) pick(names []string) (string, bool) {
	if len(names) == 0 {
		return "", false
	}
	slices.Sort(names)
	return names[w.random.IntN(len(names))], true
}

// servicesThat returns the names of Services.
func (w *world) servicesThat(are func(*service) bool) []string {
	var names []string
	for name, v := range w.services {
		if are(v) {
			names = append(names, name)
		}
	}
	return names
}

// nodesThat returns the names of nodes.
func (w *world) nodesThat(are func(*node) bool) []string {
	var names []string
	for name, n := range w.nodes {
		if n.present && !n.removed && are(n) {
			names = append(names, name)
		}
	}
	return names
}

const (
	serviceCount = 9
	nodeCount    = 6
)

// somePorts draws ports from so few that they often conflict.
func (w *world) somePorts() []corev1.ServicePort {
	all := []corev1.ServicePort{
		objects.TCP(80), objects.TCP(80), objects.TCP(443), objects.TCP(8080), objects.TCP(8443),
		objects.UDP(53), objects.UDP(443),
	}
	if w.random.IntN(12) == 0 {
		return []corev1.ServicePort{objects.TCP(reservedPorts[0])}
	}
	first := all[w.random.IntN(len(all))]
	second := all[w.random.IntN(len(all))]
	ports := []corev1.ServicePort{named(first)}
	if second != first && w.random.IntN(3) == 0 {
		ports = append(ports, named(second))
	}
	return ports
}

// named gives a port a name that is unique among those of one Service.
func named(p corev1.ServicePort) corev1.ServicePort {
	p.Name = fmt.Sprintf("%s-%d", strings.ToLower(string(p.Protocol)), p.Port)
	return p
}

func portsText(ports []corev1.ServicePort) string {
	names := make([]string, 0, len(ports))
	for _, p := range ports {
		names = append(names, p.Name)
	}
	return strings.Join(names, ",")
}

const (
	retainAnnotation   = "oxide.computer/retain-address"
	addressAnnotation  = "oxide.computer/floating-ip"
	existingAnnotation = "oxide.computer/existing-floating-ip"
	sourceAnnotation   = "oxide.computer/address-source"
)

func isLive(v *service) bool { return v.balanced && !v.deleted }

// isOwn: the addresses are the Service's own.
func isOwn(v *service) bool { return isLive(v) && v.borrows == "" && len(v.had) > 0 }

// ends notes that a Service is a load balancer no more, and that its addresses are to be kept if it
// said so.
func (v *service) ends() {
	if v.retained = v.retain && v.borrows == ""; v.retained {
		v.kept = append(v.kept, v.had...)
	}
}

func serviceKinds() []kind {
	return []kind{
		{14, chooseCreate},
		{7, ofService(isLive, "delete", func(w *world, v *service) change {
			return func(ctx context.Context, _ *step) error {
				v.deleted = true
				v.ends()
				return w.cluster.Client.CoreV1().Services(namespace).Delete(ctx, v.name,
					metav1.DeleteOptions{})
			}
		})},
		{8, ofService(isLive, "edit the ports of", func(w *world, v *service) change {
			ports := w.somePorts()
			w.detail = portsText(ports)
			return func(ctx context.Context, st *step) error {
				st.edited[v.name], v.ports = v.ports, ports
				return w.patch(ctx, v.name, map[string]any{"spec": map[string]any{"ports": ports}})
			}
		})},
		{3, ofService(isLive, "turn the retaining of", func(w *world, v *service) change {
			return func(ctx context.Context, _ *step) error {
				v.retain, v.mayKeep = !v.retain, true
				return w.annotate(ctx, v.name, retainAnnotation, strconv.FormatBool(v.retain))
			}
		})},
		{5, ofService(func(v *service) bool { return isLive(v) && v.isPlain() && v.desired == "" },
			"edit the borrowed address of", func(w *world, v *service) change {
				free, _ := w.pick(slices.DeleteFunc(slices.Clone(w.lent), func(name string) bool {
					return len(w.servicesThat(func(v *service) bool {
						return !v.deleted && v.borrows == name
					})) > 0
				}))
				if v.borrows != "" {
					free = ""
				}
				w.detail = free
				return func(ctx context.Context, st *step) error {
					ip, _ := st.before.named(free)
					if ip.AttachState == rack.Attached && !slices.Contains(v.returns, free) {
						return nil // it is stuck, and of whoever asked for it before until it is not
					}
					if v.borrows != "" {
						v.returns = append(v.returns, v.borrows)
					}
					v.returns = slices.DeleteFunc(v.returns, func(name string) bool { return name == free })
					v.borrows, v.exchanging = free, true
					st.replaced[v.name] = true
					return w.annotate(ctx, v.name, existingAnnotation, free)
				}
			})},
		{4, ofService(func(v *service) bool { return isOwn(v) && v.isPlain() },
			"edit the desired address of", func(w *world, v *service) change {
				desired := fmt.Sprintf("198.51.100.%d", 200+5*number(v.name)+w.random.IntN(5))
				if w.random.IntN(3) == 0 || v.desired == desired {
					desired = ""
				}
				w.detail = desired
				return func(ctx context.Context, st *step) error {
					v.desired, v.exchanging = desired, true
					st.replaced[v.name] = true
					return w.annotate(ctx, v.name, addressAnnotation, desired)
				}
			})},
		{3, ofService(isLive, "annotate", func(w *world, v *service) change {
			text := strconv.FormatUint(w.random.Uint64(), 10)
			return func(ctx context.Context, _ *step) error {
				return w.annotate(ctx, v.name, "example.com/comment", text)
			}
		})},
		{3, ofService(isLive, "make a ClusterIP of", func(w *world, v *service) change {
			return func(ctx context.Context, _ *step) error {
				v.balanced, v.ranges = false, nil
				v.ends()
				return w.patch(ctx, v.name, map[string]any{"spec": map[string]any{
					"type": corev1.ServiceTypeClusterIP, "loadBalancerSourceRanges": nil,
				}})
			}
		})},
		{6, ofService(func(v *service) bool { return !v.balanced && !v.deleted },
			"make a LoadBalancer of", func(w *world, v *service) change {
				to := v.shape
				if w.someClass(&to); v.isPlain() { // it may name an address
					to.class, to.subnets = strings.Replace(to.class, externalSubnet, floatingIP, 1), nil
				}
				w.detail = "as " + to.String()
				return func(ctx context.Context, st *step) error {
					v.shape, v.balanced, v.retained = to, true, false
					// What could not be taken off meanwhile is still there, perhaps not what it asks for.
					left := w.of(st.before, v.name, false)
					v.exchanging = v.exchanging || len(left) > 0
					st.mayMove(left...)
					spec := map[string]any{"type": corev1.ServiceTypeLoadBalancer}
					if v.class != "" {
						spec["loadBalancerClass"] = v.class
					}
					return w.reshape(ctx, st.before, v, spec)
				}
			})},
	}
}

// change carries an operation on one thing out.
type change func(ctx context.Context, st *step) error

// ofService makes operations on one of the Services that are so.
func ofService(
	are func(*service) bool, verb string, make func(*world, *service) change,
) func(*world) (operation, bool) {
	return func(w *world) (operation, bool) {
		name, ok := w.pick(w.servicesThat(are))
		if !ok {
			return operation{}, false
		}
		w.detail = ""
		run := make(w, w.services[name])
		return operation{
			text: strings.TrimSpace(verb + " " + name + " " + w.detail),
			run:  func(ctx context.Context, _ snapshot, st *step) error { return run(ctx, st) },
		}, true
	}
}

func number(name string) (n int) {
	_, digits, _ := strings.Cut(name, "-")
	_, _ = fmt.Sscan(digits, &n)
	return n
}

func chooseCreate(w *world) (operation, bool) {
	var free []string
	for i := range serviceCount {
		name := fmt.Sprintf("svc-%d", i)
		if v := w.services[name]; v == nil || v.deleted {
			free = append(free, name)
		}
	}
	// What Oxide does not give back yet holds the name of its Service, too.
	name, ok := w.pick(free)
	if !ok || len(w.nodesThat(func(n *node) bool { return n.run == failed || n.lost })) > 0 {
		return operation{}, false
	}
	v := &service{
		name: name, ports: w.somePorts(), shape: plain(), balanced: true, retain: w.random.IntN(4) == 0,
	}
	v.mayKeep = v.retain
	if w.random.IntN(4) > 0 {
		v.shape = w.someShape()
	}
	gone := w.services[name]
	if w.random.IntN(6) == 0 && (gone == nil || !gone.retained) {
		v.shape = plain()
		v.desired = fmt.Sprintf("198.51.100.%d", 200+5*number(name)+w.random.IntN(5))
	}
	text := fmt.Sprintf("create %s %s retain=%v, %s %s", name, portsText(v.ports), v.retain, &v.shape,
		v.desired)
	return operation{text, func(ctx context.Context, _ snapshot, _ *step) error {
		object := objects.LoadBalancer(namespace, name, v.ports...)
		object.Annotations = v.annotations()
		maps.DeleteFunc(object.Annotations, func(_, value string) bool { return value == "" })
		object.Annotations[retainAnnotation] = strconv.FormatBool(v.retain)
		policy, families := v.families()
		object.Spec.IPFamilyPolicy, object.Spec.IPFamilies = &policy, families
		if v.class != "" {
			object.Spec.LoadBalancerClass = &v.class
		}
		if v.desired != "" {
			object.Annotations[addressAnnotation] = v.desired
			v.exchanging = true
		}
		if gone != nil {
			v.kept = gone.kept
		}
		w.services[name] = v
		_, err := w.cluster.Client.CoreV1().Services(namespace).Create(ctx, object,
			metav1.CreateOptions{})
		return err
	}}, true
}

func (w *world) patch(ctx context.Context, service string, patch any) error {
	text, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = w.cluster.Client.CoreV1().Services(namespace).Patch(ctx, service, types.MergePatchType,
		text, metav1.PatchOptions{})
	return err
}

// annotate sets an annotation, or removes it if the value is empty.
func (w *world) annotate(ctx context.Context, service, key, value string) error {
	annotations := map[string]any{key: value}
	if value == "" {
		annotations[key] = nil
	}
	return w.patch(ctx, service, map[string]any{
		"metadata": map[string]any{"annotations": annotations},
	})
}

// ignoreGone takes it for done if what is to go is gone.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
