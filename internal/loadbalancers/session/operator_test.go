// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// nobodysID is an id that nothing has.
const nobodysID = "11111111-2222-4333-8444-555555555555"

// stuff is what may be named by mistake for an external subnet of the user's.
type stuff struct {
	mine, larger, attached, elsewhere oxidesim.ExternalSubnet
	stranger                          oxidesim.Instance
	floating                          oxidesim.FloatingIP
}

func (w *world) addStuff() stuff {
	w.Helper()
	subnet := func(project, name, prefix, instance string) oxidesim.ExternalSubnet {
		made, err := w.sim.AddExternalSubnet(project, oxidesim.ExternalSubnetSeed{
			Name: name, Subnet: prefix, Instance: instance, Description: "the user's text",
		})
		w.must(err)
		return made
	}
	w.must(w.sim.Apply(oxidesim.Seed{Silos: []oxidesim.SiloSeed{{
		Name: "demo", Projects: []oxidesim.ProjectSeed{{Name: "other"}},
	}}, SubnetPools: []oxidesim.SubnetPoolSeed{{
		Name: "edge", Silos: []oxidesim.PoolLinkSeed{{Silo: "demo"}},
		Members: []oxidesim.SubnetPoolMemberSeed{{Subnet: "203.0.113.128/32"}},
	}}}))
	stranger, err := w.sim.AddInstance("demo", oxidesim.InstanceSeed{Name: "stranger"})
	w.must(err)
	floating, err := w.sim.AddFloatingIP("demo", oxidesim.FloatingIPSeed{Name: "floating"})
	w.must(err)
	subnet("other", "edge-of-another", "203.0.113.128/32", "")
	return stuff{
		stranger: stranger, floating: floating,
		mine:      subnet("demo", "mine", "203.0.113.9/32", ""),
		larger:    subnet("demo", "larger", "203.0.113.12/30", ""),
		attached:  subnet("demo", "attached", "203.0.113.10/32", "stranger"),
		elsewhere: subnet("other", "elsewhere", "203.0.113.11/32", ""),
	}
}

// Whatever an operator names that is not right is refused in one line with what to do, and nothing
// is touched.
func TestRubbishByHandTouchesNoExternalSubnet(t *testing.T) {
	inRoutedWorld(t, 2, func(w *world) {
		x := w.addStuff()
		o := w.open().sync()
		defer o.close()
		web := o.want("default/web", routed, 80)
		own := o.carried(web, 1)[0]
		plain := o.want("default/plain", nil, 81)
		o.carried(plain, 1)
		pooled := o.want("default/pooled", func(d *session.Desired) {
			d.Addresses[0].Source = ownership.Source{Kind: ownership.ExternalSubnet, Pool: "edge"}
		}, 82)
		own6 := o.want("default/six", func(d *session.Desired) {
			d.Addresses[0] = plan.Desired{Family: ownership.IPv6, Source: ownership.Source{Pool: "missing"}}
		}, 83)
		time.Sleep(10 * time.Second)
		before := w.sim.State()
		changes := func() int { // the creation for one load balancer is tried again, and fails
			return w.changes() + w.changedSubnets() - w.sim.Count("external_subnet_create")
		}
		changed := changes()
		adopt := func(key ownership.Key) func(string) error {
			return func(nameOrID string) error {
				named := plan.Named{Kind: ownership.ExternalSubnet, NameOrID: nameOrID}
				_, err := w.manager.Adopt(context.Background(), named, key, "uid-1", false)
				return err
			}
		}
		release := func(nameOrID string) error {
			named := plan.Named{Kind: ownership.ExternalSubnet, NameOrID: nameOrID}
			_, err := w.manager.Release(context.Background(), named, false)
			return err
		}
		drop := func(in string) func(string) error {
			return func(id string) error {
				_, err := w.manager.DeleteOrphan(context.Background(), in, id, false)
				return err
			}
		}
		unknown := ownership.Key{Scope: scope, Name: "default/unknown"}
		const missing, taken = session.ReasonResourceNotFound, session.ReasonInUse
		for name, tc := range map[string]struct {
			do     func(string) error
			named  string
			reason session.Reason
			says   string
		}{
			"adopt: no such name": {
				adopt(web), "nothing", missing, "there is no external subnet nothing in the project; name one",
			},
			"adopt: no such id": {
				adopt(web), nobodysID, missing, "there is no external subnet " + nobodysID,
			},
			"adopt: an instance": {
				adopt(web), x.stranger.ID, missing, "there is no external subnet " + x.stranger.ID,
			},
			"adopt: of another project": {
				adopt(web), x.elsewhere.ID, missing, "in the project; name one",
			},
			"adopt: a floating IP": {
				adopt(web), "floating", missing, "but a floating IP: ask for that kind",
			},
			"adopt: a larger one": {
				adopt(unknown), "larger", session.ReasonInvalid, "needs one of a single address, /32",
			},
			"adopt: attached elsewhere": {
				adopt(web), x.attached.ID, taken,
				"to the instance stranger, which is not known here to be a candidate of the scope cluster-1: " +
					"detach it first",
			},
			"adopt: attached, for one that is not known": {adopt(unknown), "attached", taken, "detach it first"},
			"adopt: attached, in a scope without a session": {
				adopt(ownership.Key{Scope: "cluster-2", Name: "default/web"}), "attached", taken, "detach it first",
			},
			"adopt: it has its own": {adopt(web), "mine", taken, "has the address " + own.Addr.String()},
			"adopt: another's": {
				adopt(unknown), own.Name, session.ReasonNotOwned, "release it there first",
			},
			"adopt: another kind": {
				adopt(plain), "mine", session.ReasonInvalid, "change what it desires first",
			},
			"adopt: another pool": {
				adopt(pooled), "mine", session.ReasonInvalid,
				"or from another pool: change what it desires first",
			},
			"adopt: another family": {adopt(own6), "floating", missing, "ask for that kind"},
			"release: no such name": {
				release, "nothing", missing, "there is no external subnet nothing",
			},
			"release: an instance":        {release, x.stranger.ID, missing, "there is no external subnet"},
			"release: of another project": {release, "elsewhere", missing, "there is no external subnet"},
			"release: a floating IP":      {release, x.floating.ID, missing, "but a floating IP"},
			"release: in use":             {release, own.Name, taken, "which releases it"},
			"release: the user's own":     {release, "attached", 0, ""},
			"delete: no such id":          {drop(scope), nobodysID, 0, ""},
			"delete: an instance":         {drop(scope), x.stranger.ID, 0, ""},
			"delete: of another project":  {drop(scope), x.elsewhere.ID, 0, ""},
			"delete: the user's own": {
				drop(scope), x.mine.ID, session.ReasonNotOwned, "delete only what is listed as one",
			},
			"delete: a larger one": {
				drop(scope), x.larger.ID, session.ReasonNotOwned, "is no orphan of the scope cluster-1",
			},
			"delete: in use": {
				drop(scope), own.ID, session.ReasonNotOwned, "is no orphan of the scope cluster-1",
			},
			"delete: in another scope": {
				drop("cluster-2"), x.mine.ID, session.ReasonSessionRequired, "cluster-2",
			},
			"delete: attached elsewhere": {
				drop(scope), x.attached.ID, session.ReasonNotOwned, "is no orphan",
			},
			"delete: the user's floating IP": {
				drop(scope), x.floating.ID, session.ReasonNotOwned, "the floating IP floating is no orphan",
			},
		} {
			err := tc.do(tc.named)
			switch {
			case tc.says == "" && err != nil:
				t.Errorf("%s: %v", name, err)
			case tc.says == "":
			case !session.IsReason(err, tc.reason) || !strings.Contains(err.Error(), tc.says) ||
				strings.Contains(err.Error(), "\n") || len(err.Error()) > 400:
				t.Errorf("%s: %v, want %v: %s", name, err, tc.reason, tc.says)
			}
		}
		if orphans, err := w.manager.Orphans(context.Background(), scope); err != nil || len(orphans) > 0 {
			t.Errorf("orphans %v, %v", orphans, err)
		}
		if now := changes(); now != changed {
			t.Errorf("%d requests for changes", now-changed)
		}
		if diff := cmp.Diff(before, w.sim.State()); diff != "" {
			t.Errorf("the rack (-before +after):\n%s", diff)
		}
	})
}

// What is adopted for a load balancer that no session knows yet is kept for it, and not deleted if
// it turns out to desire another kind.
func TestWhatIsAdoptedBeforeItsOwnerIsKnownIsNotDeleted(t *testing.T) {
	inRoutedWorld(t, 2, func(w *world) {
		x := w.addStuff()
		o := w.open().sync()
		defer o.close()
		key := ownership.Key{Scope: scope, Name: "default/web"}
		named := plan.Named{Kind: ownership.ExternalSubnet, NameOrID: "mine"}
		for range 2 { // the second time nothing is left to do
			outcome, err := w.manager.Adopt(context.Background(), named, key, "uid-of-default-web", false)
			w.must(err)
			if !outcome.Address.Managed {
				t.Errorf("adopted %+v", outcome)
			}
		}
		if n := w.sim.Count("external_subnet_update"); n != 1 {
			t.Errorf("%d requests, want one", n)
		}
		o.want("default/web", nil, 80)
		o.carried(key, 1)
		time.Sleep(2 * time.Minute)
		if s := w.subnet(x.mine.ID); s.ID == "" || s.InstanceID != "" ||
			!strings.Contains(s.Description, "the user's text") {
			t.Errorf("it is %+v", s)
		}
		o.want("default/web", routed)
		o.await(time.Minute, "the exchange", func() bool { return len(w.sim.FloatingIPs()) == 1 })
		if now := o.carried(key, 1)[0]; now.ID != x.mine.ID || now.Retained {
			t.Errorf("it has %+v, want what was adopted for it", now)
		}
	})
}

// subnet returns an external subnet of the rack.
func (w *world) subnet(id string) oxidesim.ExternalSubnet {
	for _, s := range w.sim.ExternalSubnets() {
		if s.ID == id {
			return s
		}
	}
	return oxidesim.ExternalSubnet{}
}
