// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	// readTimeout covers the backend's own retries of a read of Oxide.
	readTimeout = 20 * time.Second

	// changeTimeout covers a detach and an attach on a sled that does not answer: Oxide gives up
	// after about a minute each.
	changeTimeout = 150 * time.Second
)

// policy says how calls of one method are made.
type policy struct {
	// timeout is the longest that a call may take; an earlier deadline of its context holds. Zero
	// means no limit, which only streams may have.
	timeout time.Duration

	// repeat is whether a call is repeated, within its deadline, while no backend answers. The
	// backend forbids it (by a pushback) for the errors that it reports itself.
	repeat bool
}

// policies returns the policy of every method of the API, by its full name.
func policies() map[string]policy {
	read := policy{timeout: readTimeout, repeat: true}
	change := policy{timeout: changeTimeout}
	return map[string]policy{
		backendv1.BackendService_GetInfo_FullMethodName: read,

		backendv1.InstanceService_GetInstance_FullMethodName:       read,
		backendv1.InstanceService_ListInstances_FullMethodName:     read,
		backendv1.InstanceService_BatchGetInstances_FullMethodName: read,
		backendv1.InstanceService_WatchInstances_FullMethodName:    {},

		backendv1.LoadBalancerService_SyncLoadBalancers_FullMethodName:      {},
		backendv1.LoadBalancerService_PlanLoadBalancers_FullMethodName:      read,
		backendv1.LoadBalancerService_GetLoadBalancer_FullMethodName:        read,
		backendv1.LoadBalancerService_ListLoadBalancers_FullMethodName:      read,
		backendv1.LoadBalancerService_RebalanceLoadBalancers_FullMethodName: change,

		backendv1.PoolService_ListPools_FullMethodName: read,

		backendv1.AddressService_ListAddresses_FullMethodName:         read,
		backendv1.AddressService_ReserveAddress_FullMethodName:        change,
		backendv1.AddressService_AttachAddress_FullMethodName:         change,
		backendv1.AddressService_DetachAddress_FullMethodName:         change,
		backendv1.AddressService_DeleteAddress_FullMethodName:         change,
		backendv1.AddressService_ListOrphanedAddresses_FullMethodName: read,
		backendv1.AddressService_AdoptAddress_FullMethodName:          change,
		backendv1.AddressService_ReleaseAddress_FullMethodName:        change,
		backendv1.AddressService_DeleteOrphanedAddress_FullMethodName: change,

		backendv1.FirewallService_ListFirewallRules_FullMethodName:   read,
		backendv1.FirewallService_RemoveFirewallRules_FullMethodName: change,
	}
}

// The types below are the part of gRPC's service config that is used here.
type (
	serviceConfig struct {
		MethodConfig []methodConfig `json:"methodConfig"`
	}
	methodConfig struct {
		Name        []methodName `json:"name"`
		Timeout     string       `json:"timeout,omitempty"`
		RetryPolicy *retryPolicy `json:"retryPolicy,omitempty"`
	}
	methodName struct {
		Service string `json:"service"`
		Method  string `json:"method"`
	}
	retryPolicy struct {
		MaxAttempts          int      `json:"maxAttempts"`
		InitialBackoff       string   `json:"initialBackoff"`
		MaxBackoff           string   `json:"maxBackoff"`
		BackoffMultiplier    float64  `json:"backoffMultiplier"`
		RetryableStatusCodes []string `json:"retryableStatusCodes"`
	}
)

// serviceConfigJSON renders the policies as gRPC's service config, which applies both timeouts and
// repetitions, to streams and unary calls alike.
func serviceConfigJSON(byMethod map[string]policy) (string, error) {
	var config serviceConfig
	for _, full := range slices.Sorted(maps.Keys(byMethod)) {
		service, method, ok := strings.Cut(strings.TrimPrefix(full, "/"), "/")
		if !ok {
			return "", fmt.Errorf("%q is not the full name of a method", full)
		}
		mc := methodConfig{Name: []methodName{{Service: service, Method: method}}}
		p := byMethod[full]
		if p.timeout > 0 {
			mc.Timeout = fmt.Sprintf("%.3fs", p.timeout.Seconds())
		}
		if p.repeat {
			// Five attempts are the most that gRPC makes.
			mc.RetryPolicy = &retryPolicy{
				MaxAttempts: 5, InitialBackoff: "0.1s", MaxBackoff: "1s", BackoffMultiplier: 2,
				RetryableStatusCodes: []string{"UNAVAILABLE"},
			}
		}
		config.MethodConfig = append(config.MethodConfig, mc)
	}
	out, err := json.Marshal(config)
	return string(out), err
}
