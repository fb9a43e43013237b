// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// firstAnswer is how long the backend is waited for.
const firstAnswer = 30 * time.Second

// ErrRefused is wrapped by errors of Run that say whose load balancers it would have touched.
var ErrRefused = errors.New("refused")

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// prepare learns what there is, refuses what would touch others, and removes what an earlier run
// has left.
func (w *world) prepare(ctx context.Context, report *Report) error {
	limited, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	var err error
	w.info, err = w.backend.GetInfo(limited, &backendv1.GetInfoRequest{})
	switch {
	case local(err):
		return fmt.Errorf("no backend answers within %s: see whether it runs, and the address", firstAnswer)
	case err != nil:
		return fmt.Errorf("the backend cannot be examined: %s", describe(err))
	}
	report.Version, report.Revision = w.info.GetVersion(), w.info.GetApiRevision()
	if err := w.prepareRack(ctx); err != nil {
		return err
	}
	for _, instance := range w.options.Instances {
		node, err := w.instance(ctx, instance)
		if err != nil {
			return fmt.Errorf("the instance %s: %s; give the names or ids of running instances of the "+
				"project %s", instance, describe(err), w.info.GetProject().GetName())
		}
		if node.GetRunState() != backendv1.RunState_RUN_STATE_RUNNING {
			return fmt.Errorf("the instance %s is %s: start it, or give another one", instance,
				node.GetRunStateText())
		}
		known := slices.ContainsFunc(w.nodes, func(n *backendv1.Instance) bool {
			return n.GetId() == node.GetId()
		})
		if !known {
			w.nodes = append(w.nodes, node)
		}
	}
	if err := w.refuse(ctx); err != nil {
		return err
	}
	report.Removed, err = w.sweep(ctx, true)
	if err != nil {
		return fmt.Errorf("what an earlier run has left could not be removed: %w", err)
	}
	return nil
}

// prepareRack finds the simulated rack, and adds instances to it if there are none to use.
func (w *world) prepareRack(ctx context.Context) error {
	if w.options.FaultURL == "" {
		return nil
	}
	rack := newSimulator(w.options.FaultURL)
	var state struct {
		RackID string `json:"rack_id"`
	}
	if err := rack.do(ctx, http.MethodGet, "state", nil, &state); err != nil {
		return err
	}
	if state.RackID == "" {
		return fmt.Errorf("fault URL %s: it is no simulated rack", w.options.FaultURL)
	}
	w.rack = rack
	if len(w.options.Instances) > 0 {
		return nil
	}
	for i := range 2 {
		name := fmt.Sprintf("%s-node-%d", w.options.Scope, i+1)
		w.removeInstance(ctx, name)
		w.seeded = append(w.seeded, name)
		if err := w.seed(ctx, seedInstance{Name: name}); err != nil {
			return err
		}
		w.options.Instances = append(w.options.Instances, name)
	}
	if _, err := w.instance(ctx, w.options.Instances[0]); err != nil {
		return fmt.Errorf("fault URL %s: it is not the rack that this backend uses: %s", w.options.FaultURL,
			describe(err))
	}
	return nil
}

func (w *world) removeInstance(ctx context.Context, name string) {
	_ = w.rack.do(ctx, http.MethodPost, "stories/remove-instance", story{Instance: name}, nil)
}

// removeNodes removes the instances that prepareRack has added.
func (w *world) removeNodes(ctx context.Context) {
	for _, name := range w.seeded {
		w.removeInstance(context.WithoutCancel(ctx), name)
	}
}

// instance returns an instance by its name or id.
func (w *world) instance(ctx context.Context, nameOrID string) (*backendv1.Instance, error) {
	request := &backendv1.GetInstanceRequest{
		Instance:  &backendv1.GetInstanceRequest_Name{Name: nameOrID},
		Freshness: backendv1.Freshness_FRESHNESS_DIRECT,
	}
	if uuidPattern.MatchString(nameOrID) {
		request.Instance = &backendv1.GetInstanceRequest_Id{Id: nameOrID}
	}
	answer, err := w.instances.GetInstance(ctx, request)
	return answer.GetInstance(), err
}

// isOwn reports whether a scope is one of this suite's.
func (w *world) isOwn(scope string) bool {
	return scope == w.options.Scope || scope == w.secondScope()
}

// refuse returns why load balancers of others would be touched.
func (w *world) refuse(ctx context.Context) error {
	if w.info.GetReadOnly() {
		return nil
	}
	for _, scope := range w.info.GetActingScopes() {
		switch {
		case w.isOwn(scope):
			return fmt.Errorf("%w: another run with the scope %s is under way at this backend: wait for its "+
				"end, or give another scope", ErrRefused, w.options.Scope)
		case w.rack != nil || w.options.Restart != nil:
			return fmt.Errorf("%w: the backend has a session of the scope %s, whose load balancers a fault or "+
				"a restart would touch: use a backend of its own", ErrRefused, scope)
		}
	}
	all, err := w.loadBalancers(ctx)
	if err != nil {
		return fmt.Errorf("whose load balancers there are: %s", describe(err))
	}
	for _, lb := range all {
		for _, address := range lb.GetAddresses() {
			id := address.GetAttachment().GetInstanceId()
			for _, node := range w.nodes {
				if id == node.GetId() && !w.isOwn(lb.GetKey().GetScope()) {
					return fmt.Errorf("%w: the instance %s carries %s of the load balancer %s of the scope %s: give "+
						"instances that serve nobody", ErrRefused, node.GetName(), address.GetAddress(),
						lb.GetKey().GetName(), lb.GetKey().GetScope())
				}
			}
		}
	}
	return w.refuseAddresses(ctx)
}

// refuseAddresses is refuse for addresses that no load balancer says to be its own.
func (w *world) refuseAddresses(ctx context.Context) error {
	if !w.offers(backendv1.Feature_FEATURE_RESERVED_ADDRESSES) {
		return nil
	}
	for _, node := range w.nodes {
		answer, err := w.addresses.ListAddresses(ctx, &backendv1.ListAddressesRequest{
			InstanceId: node.GetId(), PageSize: 1000,
		})
		if err != nil {
			return fmt.Errorf("what is attached to the instance %s: %s", node.GetName(), describe(err))
		}
		for _, address := range answer.GetAddresses() {
			if w.isOwn(address.GetMarker().GetKey().GetScope()) || w.isOwnName(address.GetName()) {
				continue
			}
			return fmt.Errorf("%w: the instance %s carries the address %s (%s), which this suite did not make: "+
				"give instances without one", ErrRefused, node.GetName(), address.GetName(), address.GetAddress())
		}
	}
	return nil
}

func (w *world) offers(f feature) bool { return slices.Contains(w.info.GetFeatures(), f) }

func (w *world) isOwnName(name string) bool { return strings.HasPrefix(name, w.options.Scope+"-") }

// loadBalancers lists all load balancers of the project.
func (w *world) loadBalancers(ctx context.Context) ([]*backendv1.LoadBalancer, error) {
	var all []*backendv1.LoadBalancer
	request := &backendv1.ListLoadBalancersRequest{PageSize: 1000}
	for {
		answer, err := w.balancers.ListLoadBalancers(ctx, request)
		if err != nil {
			return nil, err
		}
		all = append(all, answer.GetLoadBalancers()...)
		if request.PageToken = answer.GetNextPageToken(); request.PageToken == "" {
			return all, nil
		}
	}
}

// listAddresses lists all addresses that fit.
func (w *world) listAddresses(
	ctx context.Context, filter *backendv1.ListAddressesRequest,
) ([]*backendv1.Address, error) {
	var all []*backendv1.Address
	request := filter
	for {
		answer, err := w.addresses.ListAddresses(ctx, request)
		if err != nil {
			return nil, err
		}
		all = append(all, answer.GetAddresses()...)
		if request.PageToken = answer.GetNextPageToken(); request.PageToken == "" {
			return all, nil
		}
	}
}

// leftBalancer begins the name of a load balancer among the leftovers.
const leftBalancer = "load balancer "

// leftovers names what the suite has made and not removed.
func (w *world) leftovers(ctx context.Context) ([]string, error) {
	var left []string
	all, err := w.loadBalancers(ctx)
	if err != nil {
		return nil, err
	}
	for _, lb := range all {
		if w.isOwn(lb.GetKey().GetScope()) {
			left = append(left, leftBalancer+lb.GetKey().GetScope()+" "+lb.GetKey().GetName())
		}
	}
	if !w.offers(backendv1.Feature_FEATURE_RESERVED_ADDRESSES) {
		return left, nil
	}
	addresses, err := w.listAddresses(ctx, &backendv1.ListAddressesRequest{PageSize: 1000})
	if err != nil {
		return nil, err
	}
	for _, address := range addresses {
		if w.isOwnName(address.GetName()) && address.GetMarker() == nil {
			left = append(left, "address "+address.GetName())
		}
	}
	return left, nil
}

// sweep removes all that the suite has made, and returns what that was. Firewall rules that no address
// belongs to are found only if all is searched.
func (w *world) sweep(ctx context.Context, all bool) ([]string, error) {
	if w.info.GetReadOnly() {
		return nil, nil
	}
	left, err := w.leftovers(ctx)
	if err != nil {
		return nil, errors.New(describe(err))
	}
	all = all || slices.ContainsFunc(left, func(name string) bool {
		return strings.HasPrefix(name, leftBalancer)
	})
	var errs []error
	for _, scope := range []string{w.options.Scope, w.secondScope()} {
		if all && w.offers(backendv1.Feature_FEATURE_SESSIONS) {
			rules, err := w.sweepScope(ctx, scope)
			left = append(left, rules...)
			if slices.ContainsFunc(left, func(name string) bool {
				return strings.HasPrefix(name, leftBalancer+scope+" ")
			}) {
				errs = append(errs, err) // else nothing that is known is left, and cases say what is wrong
			}
		}
	}
	if w.offers(backendv1.Feature_FEATURE_RESERVED_ADDRESSES) {
		errs = append(errs, w.sweepAddresses(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return left, err
	}
	still, err := w.leftovers(ctx)
	if err == nil && len(still) > 0 {
		err = fmt.Errorf("still there: %s", strings.Join(still, ", "))
	}
	return left, err
}

// sweepAddresses removes the addresses that the suite has reserved.
func (w *world) sweepAddresses(ctx context.Context) error {
	addresses, err := w.listAddresses(ctx, &backendv1.ListAddressesRequest{PageSize: 1000})
	if err != nil {
		return errors.New(describe(err))
	}
	for _, address := range addresses {
		if !w.isOwnName(address.GetName()) || address.GetMarker() != nil {
			continue
		}
		if err := w.discard(ctx, address); err != nil {
			return fmt.Errorf("the address %s: %s", address.GetName(), describe(err))
		}
	}
	return nil
}

// discard detaches and deletes an address. A busy instance is waited for.
func (w *world) discard(ctx context.Context, address *backendv1.Address) error {
	for {
		err := w.discardOnce(ctx, address)
		code := status.Code(err)
		if code != codes.Unavailable &&
			reasonOf(err) != backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_OPERABLE {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

func (w *world) discardOnce(ctx context.Context, address *backendv1.Address) error {
	if id := address.GetInstanceId(); id != "" {
		_, err := w.addresses.DetachAddress(ctx, &backendv1.DetachAddressRequest{
			Source: address.GetSource(), ResourceId: address.GetResourceId(), InstanceId: id,
		})
		if err != nil && reasonOf(err) != backendv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND {
			return err
		}
	}
	_, err := w.addresses.DeleteAddress(ctx, &backendv1.DeleteAddressRequest{
		Source: address.GetSource(), ResourceId: address.GetResourceId(),
	})
	return err
}
