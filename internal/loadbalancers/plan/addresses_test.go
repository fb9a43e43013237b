// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// check compares the index with what it is to have.
func (a *Addresses) check(t *testing.T, want map[string]Address) {
	t.Helper()
	if a.Len() != len(want) || len(a.byID) != len(want) {
		t.Errorf("%d and %d addresses, want %d", a.Len(), len(a.byID), len(want))
	}
	if !slices.IsSortedFunc(a.All(), func(x, y *Address) int { return strings.Compare(x.ID, y.ID) }) {
		t.Error("not ordered by id")
	}
	owned := make(map[string]int)
	for id, w := range want {
		got := a.ByID(id)
		marker, ok := ownership.ParseMarker(w.Description)
		w.Marked = ok && marker.Family == w.Family()
		if w.Marked {
			w.Marker = marker
			owned[marker.Key.Name]++
		}
		if got == nil || *got != w || a.ByName(w.Kind, w.Name) != got || a.ByAddr(w.Addr) != got ||
			a.Find(w.Kind, id) != got || a.Find(w.Kind, w.Name) != got {
			t.Errorf("%s is %+v, want %+v", id, got, w)
		}
	}
	for n := range 4 {
		name := fmt.Sprintf("default/%d", n)
		list := a.Owned([]string{"s1", "s2"}, name)
		if len(list) != owned[name] ||
			!slices.IsSortedFunc(list, func(x, y *Address) int { return strings.Compare(x.ID, y.ID) }) {
			t.Errorf("%s has %d, want %d", name, len(list), owned[name])
		}
	}
}

// Whatever happens to floating IPs, each index has them as they are, and what was returned stays as
// it was.
func TestTheIndexFollowsTheFloatingIPs(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		a, want := NewAddresses(), make(map[string]Address)
		random := func(i int) Address {
			marker := Marker{
				Key:      Key{Scope: fmt.Sprintf("s%d", 1+r.IntN(2)), Name: fmt.Sprintf("default/%d", r.IntN(4))},
				OwnerUID: "u", Family: IPv4, Source: "default",
			}
			w := Address{
				ID: fmt.Sprintf("ip-%02d", i), Name: fmt.Sprintf("name-%d", i),
				Addr:        netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}),
				Description: []string{"", "mine", marker.String(), marker.String()}[r.IntN(4)],
			}
			if r.IntN(2) == 0 {
				w.InstanceID = fmt.Sprintf("n%d", r.IntN(4))
			}
			return w
		}
		for range 30 {
			switch i := r.IntN(20); r.IntN(3) {
			case 0:
				w := random(i)
				old := a.ByID(w.ID)
				before := Address{}
				if old != nil {
					before = *old
				}
				a.Upsert(w)
				want[w.ID] = w
				if old != nil && *old != before {
					t.Error("what was returned has changed")
				}
			case 1:
				id := fmt.Sprintf("ip-%02d", i)
				_, is := want[id]
				if a.Delete(id) != is {
					t.Errorf("%s was there: %t", id, is)
				}
				delete(want, id)
			case 2:
				var list []Address
				next := make(map[string]Address)
				for j := range 20 {
					if r.IntN(3) > 0 {
						w := random(j)
						list, next[w.ID] = append(list, w), w
					}
				}
				r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
				vanished, _ := a.Replace(list)
				for _, gone := range vanished {
					if _, is := want[gone.ID]; !is {
						t.Errorf("%s was not there", gone.ID)
					}
				}
				want = next
			}
			a.check(t, want)
		}
		if t.Failed() {
			t.Fatalf("with the seed %d", seed)
		}
	}
}

// Two floating IPs may exchange their names, or one may come with the name of another that has
// gone.
func TestNamesMayPassFromOneToAnother(t *testing.T) {
	a := NewAddresses()
	x, y := foreign("x 192.0.2.1"), foreign("y 192.0.2.2")
	a.Replace([]Address{x, y})
	x.Name, y.Name = y.Name, x.Name
	a.Replace([]Address{x, y})
	a.check(t, map[string]Address{"x": x, "y": y})
	z := named(foreign("z 192.0.2.1"), x.Name)
	a.Replace([]Address{z, y})
	a.check(t, map[string]Address{"z": z, "y": y})
}
