// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// big is a rack with n running instances and n floating IPs, each attached to one.
func big(t testing.TB, n int) *oxidesim.Simulator {
	t.Helper()
	seed := oxidesim.DefaultSeed()
	seed.Pools[0].Ranges = []oxidesim.RangeSeed{{First: "198.18.0.1", Last: "198.19.255.254"}}
	p := &seed.Silos[0].Projects[0]
	p.VPCs = []oxidesim.VPCSeed{{Name: "default", Subnets: []oxidesim.SubnetSeed{
		{Name: "nodes", IPv4Block: "10.0.0.0/16"},
	}}}
	for i := range n {
		name := fmt.Sprintf("node-%04d", i)
		p.Instances = append(p.Instances, oxidesim.InstanceSeed{Name: name, Subnet: "nodes"})
		p.FloatingIPs = append(p.FloatingIPs, oxidesim.FloatingIPSeed{
			Name: "fip-" + name, Instance: name,
		})
	}
	s, err := oxidesim.New(oxidesim.Config{Seed: &seed, TimeScale: oxidesim.TestTimeScale})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func list(t testing.TB, h http.Handler, path string) int {
	req := httptest.NewRequest(http.MethodGet, path, nil)
	req.Header.Set("Authorization", "Bearer "+oxidesim.DefaultToken)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.Len()
}

// A list of 1,000 instances or floating IPs takes less than 20 ms without latency. The best
// of several is taken, for a busy machine is not the simulator's fault.
func TestThousandIsCheap(t *testing.T) {
	s := big(t, 1000)
	for _, path := range []string{
		"/v1/instances?project=demo&limit=1000", "/v1/floating-ips?project=demo&limit=1000",
	} {
		var took []time.Duration
		for range 10 {
			began := time.Now()
			list(t, s.Handler(), path)
			took = append(took, time.Since(began))
		}
		best, limit := slices.Min(took), 20*time.Millisecond
		t.Logf("%s: best of 10 %v", path, best)
		if raceEnabled {
			limit *= 10
		}
		if best > limit {
			t.Errorf("%s took %v, want at most %v", path, best, limit)
		}
	}
}

func BenchmarkListInstances(b *testing.B) {
	s := big(b, 1000)
	b.ResetTimer()
	for b.Loop() {
		list(b, s.Handler(), "/v1/instances?project=demo&limit=1000")
	}
}

// Many clients fight over few addresses and instances; at the end each address is where the
// rack says it is, and nothing is left in transition.
func TestParallelLoad(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	var instances, fips []string
	for n := range 3 {
		instances = append(instances, r.instance(fmt.Sprintf("node-%d", n)))
		fips = append(fips, r.fip(fmt.Sprintf("fip-%d", n)))
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := range 40 {
				fip := "/v1/floating-ips/" + fips[(w+n)%3]
				switch (w + n) % 5 {
				case 0, 1:
					r.do("POST", fip+"/attach", attachTo(instances[(w*n)%3]))
				case 2:
					r.do("POST", fip+"/detach", nil)
				case 3:
					r.do("PUT", fip, obj{"description": fmt.Sprint(w, n)})
					r.do("GET", "/v1/instances?project=demo", nil)
				case 4:
					r.do("POST", "/v1/instances/"+instances[n%3]+"/reboot", nil)
					r.do("GET", "/v1/instances/"+instances[w%3]+"/external-ips", nil)
					name := fmt.Sprintf("x-%d-%d", w, n)
					r.do("POST", "/v1/instances?project=demo", newInstanceBody(name, nil))
					r.State()
				}
			}
		})
	}
	wg.Wait()
	for _, f := range r.FloatingIPs() {
		got := r.get("/v1/floating-ips/" + f.ID).ok(200)
		if f.AttachState != "attached" && f.AttachState != "detached" ||
			(f.AttachState == "attached") != (got["instance_id"] != nil) {
			t.Errorf("%s is %s, instance %v", f.Name, f.AttachState, got["instance_id"])
		}
	}
	for op, by := range r.Counters() {
		if by[500] > 0 || by[0] > 0 {
			t.Errorf("%s: %v", op, by)
		}
	}
}
