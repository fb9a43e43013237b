// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package pools_test

import (
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/pools"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newLister(t *testing.T, rack *oxidesim.Server) *pools.Lister {
	t.Helper()
	host, err := oxide.ParseHost(rack.URL)
	if err != nil {
		t.Fatal(err)
	}
	token, err := oxide.StaticToken(oxidesim.DefaultToken)
	if err != nil {
		t.Fatal(err)
	}
	api, err := oxide.New(oxide.Config{
		Host: host, Token: token, Project: oxidesim.DefaultProject,
	}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	return pools.NewLister(api)
}

// However many ask at a time and one after another, Oxide is asked once.
func TestCallersShareTheListsOfPools(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	lister := newLister(t, rack)
	list := func() {
		found, more, err := lister.List(t.Context(), pools.Filter{}, "", 100)
		if err != nil || more || len(found) != 4 {
			t.Errorf("got %v, %v, %v", found, more, err)
		}
	}
	list()
	requests := rack.Count("ip_pool_list") + rack.Count("subnet_pool_list")
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(list)
	}
	callers.Wait()
	if n := rack.Count("ip_pool_list") + rack.Count("subnet_pool_list"); n != requests {
		t.Errorf("%d requests more", n-requests)
	}
	if n := rack.Count("current_user_view"); n != 1 {
		t.Errorf("the user was read %d times", n)
	}
}

// Only the list of the kind that is asked for is read, and what fails is no empty list.
func TestWhatCannotBeReadIsNoEmptyList(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	lister := newLister(t, rack)
	if _, err := rack.AddFault(oxidesim.Fault{Operation: "subnet_pool_list", Status: 500}); err != nil {
		t.Fatal(err)
	}
	floating := pools.Filter{Kinds: []ownership.Kind{ownership.FloatingIP}}
	if found, _, err := lister.List(t.Context(), floating, "", 100); err != nil || len(found) != 2 {
		t.Errorf("IP pools: %v, %v", found, err)
	}
	if found, _, err := lister.List(t.Context(), pools.Filter{}, "", 100); err == nil || found != nil {
		t.Errorf("all: %v, %v", found, err)
	}
}
