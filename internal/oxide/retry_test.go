// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// outages are the answers that mean "not now".
var outages = map[string]oxidesim.Fault{
	"502":                  {Status: 502, ErrorCode: "Internal"},
	"503":                  {Status: 503, ErrorCode: "ServiceNotAvailable"},
	"503 without code":     {Status: 503},
	"504":                  {Status: 504, ErrorCode: "Internal"},
	"connection reset":     {Reset: true},
	"body broken off":      {Reset: true, Truncate: 25},
	"too many requests":    {Status: 429},
	"a proxy's error page": {Status: 502, Body: "<html>Bad", ContentType: "text/html"},
}

func TestReadIsTriedAgainDuringAnOutage(t *testing.T) {
	for name, fault := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, oxidesim.Config{})
			node := r.instance(oxidesim.InstanceSeed{})
			fault.Operation, fault.Times = "instance_view", 2
			r.fault(fault)
			got, err := r.InstanceByID(t.Context(), node.ID)
			if err != nil || got.Name != node.Name {
				t.Fatalf("got %q, %v", got.Name, err)
			}
			if n := r.Count("instance_view"); n != 3 {
				t.Errorf("%d requests, want 3", n)
			}
			if n := r.retries("instance_view"); n != 2 {
				t.Errorf("the metric counts %d retries, want 2", n)
			}
		})
	}
}

func TestReadIsTriedFourTimesAtMost(t *testing.T) {
	for name, fault := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, oxidesim.Config{})
			node := r.instance(oxidesim.InstanceSeed{})
			fault.Operation = "instance_view"
			r.fault(fault)
			_, err := r.InstanceByID(t.Context(), node.ID)
			wantKind(t, err, oxide.KindUnavailable)
			if n := r.Count("instance_view"); n != 4 {
				t.Errorf("%d requests, want 4", n)
			}
			if n := r.retries("instance_view"); n != 3 {
				t.Errorf("the metric counts %d retries, want 3", n)
			}
		})
	}
}

func TestReadIsNotTriedAgainAfterAVerdict(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 409, 418, 500, 507} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			r := start(t, oxidesim.Config{})
			r.fault(oxidesim.Fault{Operation: "instance_view", Status: status})
			if _, err := r.InstanceByID(t.Context(), anID); err == nil {
				t.Fatal("no error")
			}
			if n, retries := r.Count("instance_view"), r.retries("instance_view"); n != 1 ||
				retries != 0 {
				t.Errorf("%d requests and %d retries, want 1 and 0", n, retries)
			}
		})
	}
}

// mutations are all calls that change something, by operation.
var mutations = map[string]func(context.Context, *oxide.Client) error{
	"floating_ip_create": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.CreateFloatingIP(ctx, "web", "", oxide.IPAllocator{DefaultPool4: true})
		return err
	},
	"floating_ip_update": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.DescribeFloatingIP(ctx, anID, "new")
		return err
	},
	"floating_ip_delete": func(ctx context.Context, c *oxide.Client) error {
		return c.DeleteFloatingIP(ctx, anID)
	},
	"floating_ip_attach": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.AttachFloatingIP(ctx, anID, anID)
		return err
	},
	"floating_ip_detach": func(ctx context.Context, c *oxide.Client) error {
		return c.DetachFloatingIP(ctx, anID)
	},
	"external_subnet_create": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.CreateExternalSubnet(ctx, "web", "",
			oxide.SubnetAllocator{DefaultPool4: true, Bits: 32})
		return err
	},
	"external_subnet_update": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.DescribeExternalSubnet(ctx, anID, "new")
		return err
	},
	"external_subnet_delete": func(ctx context.Context, c *oxide.Client) error {
		return c.DeleteExternalSubnet(ctx, anID)
	},
	"external_subnet_attach": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.AttachExternalSubnet(ctx, anID, anID)
		return err
	},
	"external_subnet_detach": func(ctx context.Context, c *oxide.Client) error {
		return c.DetachExternalSubnet(ctx, anID)
	},
}

// reads are all calls that change nothing, by the operation that they end with.
var reads = map[string]func(context.Context, *oxide.Client) error{
	"current_user_view": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.Identity(ctx)
		return err
	},
	"current_user_access_token_list": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.AccessTokens(ctx)
		return err
	},
	"current_user_groups": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.ProjectRole(ctx, oxide.User{ID: anID})
		return err
	},
	"project_policy_view": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.ProjectRole(ctx, oxide.User{ID: anID})
		return err
	},
	"subnet_pool_list": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.SubnetPools(ctx)
		return err
	},
	"project_view": func(ctx context.Context, c *oxide.Client) error {
		return c.ProjectReadable(ctx, anID)
	},
	"instance_view": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.InstanceByID(ctx, anID)
		return err
	},
	"instance_list": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.Instances(ctx)
		return err
	},
	"vpc_list": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.Subnets(ctx)
		return err
	},
	"vpc_subnet_list": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.Subnets(ctx)
		return err
	},
	"vpc_subnet_list_network_interfaces": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.SubnetInterfaces(ctx, anID, nil)
		return err
	},
	"instance_external_ip_list": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.ExternalIPs(ctx, anID)
		return err
	},
	"floating_ip_list": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.FloatingIPs(ctx)
		return err
	},
	"floating_ip_view": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.FloatingIPByName(ctx, "web")
		return err
	},
	"external_subnet_list": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.ExternalSubnets(ctx)
		return err
	},
	"external_subnet_view": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.ExternalSubnetByName(ctx, "web")
		return err
	},
	"subnet_pool_view": func(ctx context.Context, c *oxide.Client) error {
		_, err := c.SubnetPool(ctx, "pool")
		return err
	},
}

// The outcome of a mutation that failed so is not known, so that only the caller, who looks first,
// may try again. The client's connection has been used before: HTTP clients like to repeat then.
func TestMutationIsTriedOnce(t *testing.T) {
	for operation, call := range mutations {
		for name, fault := range outages {
			t.Run(operation+"/"+name, func(t *testing.T) {
				t.Parallel()
				r := start(t, oxidesim.Config{})
				if _, err := r.Identity(t.Context()); err != nil {
					t.Fatal(err)
				}
				if fault.Truncate > 0 && fault.Body == "" {
					// For calls whose answer has no body.
					fault.Body = `{"id": "and so on and on and on and on"}`
				}
				fault.Operation = operation
				r.fault(fault)
				wantKind(t, call(t.Context(), r.Client), oxide.KindUnavailable)
				if n := r.Count(operation); n != 1 {
					t.Errorf("%d requests, want 1", n)
				}
				if n := r.retries(operation); n != 0 {
					t.Errorf("the metric counts %d retries, want none", n)
				}
			})
		}
	}
}

func TestAReadOnlyClientSendsNoChange(t *testing.T) {
	r := start(t, oxidesim.Config{}, func(cfg *oxide.Config) { cfg.ReadOnly = true })
	if _, err := r.Identity(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.ResetCounters()
	for operation, call := range mutations {
		t.Run(operation, func(t *testing.T) {
			wantKind(t, call(t.Context(), r.Client), oxide.KindReadOnly)
		})
	}
	if sent := r.Counters(); len(sent) > 0 {
		t.Errorf("sent %v", sent)
	}
}

func TestNothingIsSentOnceTheContextHasEnded(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for name, ctx := range map[string]context.Context{"cancelled": cancelled, "expired": expired} {
		for _, calls := range []map[string]func(context.Context, *oxide.Client) error{
			mutations, reads,
		} {
			for operation, call := range calls {
				t.Run(name+"/"+operation, func(t *testing.T) {
					for _, known := range []bool{false, true} {
						r := start(t, oxidesim.Config{})
						if known {
							if _, err := r.Identity(t.Context()); err != nil {
								t.Fatal(err)
							}
							if operation == "current_user_view" {
								continue // it is answered from memory
							}
						}
						r.ResetCounters()
						err := call(ctx, r.Client)
						wantKind(t, err, oxide.KindEnded)
						if !errors.Is(err, ctx.Err()) {
							t.Errorf("%v does not wrap %v", err, ctx.Err())
						}
						if sent := r.Counters(); len(sent) > 0 {
							t.Errorf("sent %v", sent)
						}
					}
				})
			}
		}
	}
}

func TestReadIsNotTriedAgainOnceTheContextHasEnded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var requests atomic.Int32
	r := startBehind(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			defer cancel()
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = http.NewResponseController(w).Flush()
		})
	})
	_, err := r.InstanceByID(ctx, anID)
	wantKind(t, err, oxide.KindEnded)
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestCallEndsWithItsDeadline(t *testing.T) {
	for name, call := range map[string]func(context.Context, *oxide.Client) error{
		"read": reads["instance_view"], "mutation": mutations["floating_ip_detach"],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, oxidesim.Config{})
			r.fault(oxidesim.Fault{LatencyMS: 60_000})
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			began := time.Now()
			err := call(ctx, r.Client)
			wantKind(t, err, oxide.KindEnded)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v does not wrap the deadline", err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}
