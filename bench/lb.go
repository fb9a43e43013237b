// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// measureLoadBalancers measures what load balancers cost in requests to Oxide and in time, and how
// evenly they are spread.
func measureLoadBalancers(ctx context.Context, w *world) (figures, error) {
	found := figures{}
	for _, measure := range []struct {
		nodes   int
		measure func(f *fleet, ctx context.Context, found figures) error
	}{
		{2, (*fleet).measureCalls}, {10, (*fleet).measureServices}, {20, (*fleet).measureRestart},
	} {
		f := &fleet{world: w, n: measure.nodes}
		if err := f.clear(ctx); err != nil {
			return nil, err
		}
		if err := f.start(ctx); err != nil {
			return nil, err
		}
		if err := measure.measure(f, ctx, found); err != nil {
			return nil, fmt.Errorf("%d nodes: %w", f.n, err)
		}
		if err := f.ccm.Stop(); err != nil {
			return nil, err
		}
	}
	return found, (&fleet{world: w}).clear(ctx)
}

// clear removes all Nodes, and all Services of type LoadBalancer, while nobody looks after them.
func (f *fleet) clear(ctx context.Context) error {
	services := f.cluster.Client.CoreV1().Services("default")
	list, err := services.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, service := range list.Items {
		if service.Name == "kubernetes" { // the API server's own
			continue
		}
		if _, err := services.Patch(ctx, service.Name, types.MergePatchType,
			[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
			return err
		}
		if err := services.Delete(ctx, service.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	return f.cluster.Client.CoreV1().Nodes().DeleteCollection(ctx, metav1.DeleteOptions{},
		metav1.ListOptions{})
}

// measureCalls counts the requests of single calls of the backend, which has read instances and
// firewalls a moment ago.
func (f *fleet) measureCalls(ctx context.Context, found figures) error {
	if err := f.ccm.Shim.Stop(limit); err != nil { // it calls the backend, too
		return err
	}
	conn, err := grpc.NewClient(f.ccm.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	client := backendv1.NewLoadBalancerServiceClient(conn)
	state, err := f.rack.State(ctx)
	if err != nil {
		return err
	}
	cluster := &backendv1.Cluster{Scope: "bench"}
	for _, instance := range state.Instances {
		cluster.Candidates = append(cluster.Candidates, &backendv1.Candidate{
			InstanceId: instance.ID, Health: backendv1.CandidateHealth_CANDIDATE_HEALTH_HEALTHY,
		})
	}
	want := benchLoadBalancer()
	reconcile := func(set []*backendv1.DesiredLoadBalancer, dryRun bool) error {
		answer, err := client.ReconcileLoadBalancers(ctx, &backendv1.ReconcileLoadBalancersRequest{
			Cluster: cluster, LoadBalancers: set, DryRun: dryRun,
		})
		for _, result := range answer.GetResults() {
			if problem := result.GetProblem(); problem != nil {
				return errors.New(problem.GetMessage())
			}
		}
		return err
	}
	ensure := func() error {
		_, err := client.EnsureLoadBalancer(ctx, &backendv1.EnsureLoadBalancerRequest{
			Cluster: cluster, LoadBalancer: want, LeaveAttached: true,
		})
		return err
	}
	if err := reconcile(nil, true); err != nil { // the full set, and all that is kept for a while
		return err
	}
	for _, call := range []struct {
		figure string
		make   func() error
	}{
		{"lb_create_requests", ensure},
		{"lb_noop_requests", ensure},
		{"lb_move_requests", func() error {
			if err := f.degrade(ctx, cluster); err != nil {
				return err
			}
			return reconcile([]*backendv1.DesiredLoadBalancer{want}, false)
		}},
		{"lb_delete_requests", func() error {
			_, err := client.DeleteLoadBalancer(ctx, &backendv1.DeleteLoadBalancerRequest{
				Key: want.GetKey(), OwnerUid: want.GetOwnerUid(), Cluster: cluster,
			})
			return err
		}},
	} {
		if found[call.figure], err = f.during(ctx, call.figure, call.make); err != nil {
			return err
		}
	}
	return nil
}

// degrade makes the instance that carries the address unhealthy.
func (f *fleet) degrade(ctx context.Context, cluster *backendv1.Cluster) error {
	state, err := f.rack.State(ctx)
	if err != nil {
		return err
	}
	if len(state.FloatingIPs) != 1 {
		return fmt.Errorf("the rack has %d floating IPs, want one", len(state.FloatingIPs))
	}
	carrier, _ := state.Instance(state.FloatingIPs[0].Instance)
	for _, candidate := range cluster.GetCandidates() {
		if candidate.GetInstanceId() == carrier.ID {
			candidate.Health = backendv1.CandidateHealth_CANDIDATE_HEALTH_UNHEALTHY
		}
	}
	return nil
}

func benchLoadBalancer() *backendv1.DesiredLoadBalancer {
	return &backendv1.DesiredLoadBalancer{
		Key:      &backendv1.LoadBalancerKey{Scope: "bench", Name: "default/web"},
		OwnerUid: "bench", CreateTime: timestamppb.New(time.Unix(0, 0)),
		Addresses: []*backendv1.WantedAddress{{
			Family: backendv1.IpFamily_IP_FAMILY_IPV4,
			Source: &backendv1.WantedAddress_FloatingIp{FloatingIp: &backendv1.FloatingIpSource{}},
		}},
		Ports: []*backendv1.Port{{Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: 80}},
	}
}

// during counts the requests while something is done, and tells them.
func (f *fleet) during(ctx context.Context, what string, do func() error) (float64, error) {
	requests, err := f.difference(ctx, do)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return f.tell(what, requests), nil
}

// difference returns how often each operation was asked for while something was done.
func (f *fleet) difference(ctx context.Context, do func() error) (map[string]int, error) {
	before, err := f.requests(ctx)
	if err != nil {
		return nil, err
	}
	if err := do(); err != nil {
		return nil, err
	}
	after, err := f.requests(ctx)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(after, func(operation string, n int) bool { return n == before[operation] })
	for operation := range after {
		after[operation] -= before[operation]
	}
	return after, nil
}
