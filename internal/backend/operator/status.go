// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const statusHelp = `status shows what the backend is and what it works on: whether Oxide is reached, the
session of load balancers that runs here, load balancers with their addresses and where these are, and
instances with what they carry, and whether they can carry addresses. What has a problem comes first.

Any replica answers. Only the one that leads, where the session is, knows what is wrong with a load
balancer or an instance; any other shows what Oxide does. Where something could not be read the rest is
shown, a line says so, and the exit code is 1. Long notes are cut short; JSON and YAML have all of them.

` + exitCodes

func newStatusCommand(address string) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show the state of a running backend, its load balancers and instances, problems first",
		Long:    statusHelp,
		Example: "  oxide-backend status\n  kubectl exec POD -c oxide-backend -- oxide-backend status",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withConnection(&o, func(c *connection) error {
				s, err := readStatus(cmd.Context(), c)
				if err != nil {
					return err
				}
				if err := c.print(cmd.OutOrStdout(), s.inJSON(), s.table); err != nil || len(s.problems) == 0 {
					return err
				}
				return ErrReported
			})
		},
	}
	o.addFlags(cmd.Flags(), address)
	o.addScopeFlag(cmd.Flags())
	return cmd
}

// overview is what status shows.
type overview struct {
	info    *backendv1.GetInfoResponse
	reached bool
	// asked is the scope that the user asks about; scopes are those of sessions here among what is shown.
	asked  string
	scopes []string

	names         *names
	owners        *owners
	loadBalancers []*backendv1.LoadBalancer
	instances     []*backendv1.Instance
	addresses     []*backendv1.Address
	// candidates are by the id of the instance. Backends before revision 8 of the API do not say which
	// they are.
	candidates map[string]*backendv1.PlannedCandidate
	// inSync is whether a session has said what there is.
	inSync bool
	// listed are the parts that Oxide has listed: of the others only what a session knows is here.
	listed map[string]bool

	// problems are why something could not be read.
	problems []string
}

const (
	// healthLimit bounds what the backend answers from memory.
	healthLimit = 5 * time.Second
	// listLimit bounds what it reads from Oxide. A status is wanted most while Oxide does not answer, so it
	// does not wait until the backend has given up.
	listLimit = 10 * time.Second
)

// The parts of a status, as messages call them.
const (
	theHealth        = "the state of the backend"
	thePlan          = "what the session knows"
	theInstances     = "the instances"
	theAddresses     = "the addresses"
	theLoadBalancers = "the load balancers"
)

// readStatus reads all at the same time. It fails where the backend does not even say what it is.
func readStatus(ctx context.Context, c *connection) (*overview, error) {
	s := &overview{
		asked: c.scope, listed: make(map[string]bool),
		candidates: make(map[string]*backendv1.PlannedCandidate),
	}
	var err error
	s.info, err = call(ctx, backendv1.NewBackendServiceClient(c).GetInfo, new(backendv1.GetInfoRequest))
	if err != nil {
		return nil, err
	}
	s.scopes = slices.DeleteFunc(slices.Clone(s.info.GetActingScopes()), func(scope string) bool {
		return c.scope != "" && scope != c.scope
	})
	// Without a session of its own a backend shows what there is.
	listed := onlyScope(c.scope, s.info)

	var orphans []*backendv1.LoadBalancer
	var plans []*backendv1.PlanLoadBalancersResponse
	var mu sync.Mutex
	var group sync.WaitGroup
	silent := false
	read := func(what string, limit time.Duration, part func(context.Context) error) {
		group.Go(func() {
			partCtx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			err := part(partCtx)
			mu.Lock()
			defer mu.Unlock()
			if s.listed[what] = err == nil; err == nil {
				return
			}
			text := err.Error()
			if partCtx.Err() != nil && what != theHealth {
				silent = true
				text = fmt.Sprintf("%s could not be read within %s: Oxide does not answer, or is slow", what, limit)
			}
			if !slices.Contains(s.problems, text) {
				s.problems = append(s.problems, text)
			}
		})
	}
	read(theHealth, healthLimit, func(ctx context.Context) error {
		health, err := call(ctx, healthv1.NewHealthClient(c).Check, &healthv1.HealthCheckRequest{
			Service: backendv1.BackendService_ServiceDesc.ServiceName,
		})
		s.reached = health.GetStatus() == healthv1.HealthCheckResponse_SERVING
		return err
	})
	read(theInstances, listLimit, func(ctx context.Context) (err error) {
		s.instances, err = listInstances(ctx, c, new(backendv1.ListInstancesRequest))
		return err
	})
	read(theAddresses, listLimit, func(ctx context.Context) (err error) {
		s.addresses, err = listAddresses(ctx, c, new(backendv1.ListAddressesRequest))
		return err
	})
	read(theLoadBalancers, listLimit, func(ctx context.Context) (err error) {
		s.loadBalancers, err = listLoadBalancers(ctx, c, listed)
		return err
	})
	read(thePlan, listLimit, func(ctx context.Context) error {
		for _, scope := range s.scopes {
			plan, err := planOf(ctx, c, scope)
			if err != nil {
				return err
			}
			s.inSync = s.inSync || plan != nil
			for _, candidate := range plan.GetCandidates() {
				s.candidates[candidate.GetInstanceId()] = candidate
			}
			orphans = append(orphans, plan.GetOrphans()...)
			plans = append(plans, plan)
		}
		return nil
	})
	group.Wait()
	if ctx.Err() != nil {
		return nil, errInterrupted
	}
	for _, plan := range plans {
		waiting := withoutAddress(plan, s.loadBalancers)
		if !s.listed[theLoadBalancers] {
			for _, lb := range waiting { // or it is there, and was not listed
				lb.Phase = backendv1.Phase_PHASE_UNSPECIFIED
			}
		}
		s.loadBalancers = append(s.loadBalancers, waiting...)
	}
	s.reached = s.reached && !silent // the backend notices it later
	slices.Sort(s.problems)
	s.names = namesOfInstances(listed, s.instances)
	for _, candidate := range s.candidates {
		s.names.learn(candidate)
	}
	s.owners = newOwners(s.loadBalancers, orphans)
	s.sort()
	return s, nil
}

// inJSON is a status for programs: messages of the API, and what could not be read.
func (s *overview) inJSON() any {
	candidates := make([]*backendv1.PlannedCandidate, 0, len(s.candidates))
	for _, instance := range s.rowsOfInstances() {
		if candidate := s.candidates[instance.GetId()]; candidate != nil {
			candidates = append(candidates, candidate)
		}
	}
	return struct {
		Problems      []string `json:"problems"`
		OxideReached  bool     `json:"oxideReached"`
		Info          inJSON   `json:"info"`
		LoadBalancers []inJSON `json:"loadBalancers"`
		Instances     []inJSON `json:"instances"`
		Candidates    []inJSON `json:"candidates"`
		Addresses     []inJSON `json:"addresses"`
	}{
		append([]string{}, s.problems...), s.reached, jsonOf(s.info), jsonOfAll(s.loadBalancers),
		jsonOfAll(s.instances), jsonOfAll(candidates), jsonOfAll(s.addresses),
	}
}
