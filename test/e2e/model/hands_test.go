// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// Operations by people on the rack.

func peopleKinds() []kind {
	return []kind{
		{4, byHand("detach", func(ctx context.Context, h hand) error {
			h.st.mayMove(h.ip)
			return h.takeOff(ctx)
		})},
		{4, byHand("attach elsewhere", func(ctx context.Context, h hand) error {
			nodes := h.w.nodesThat(func(n *node) bool {
				return !n.lost && h.s.private(n.name, h.ip.Version()) != "" && !h.hasAnother(n.name)
			})
			if len(nodes) == 0 {
				return nil
			}
			slices.Sort(nodes)
			return h.elsewhere(ctx, nodes[h.number%len(nodes)])
		})},
		{4, byHand("describe", func(ctx context.Context, h hand) error {
			return h.describe(ctx, h.lost)
		})},
		{3, byHand("rename", func(ctx context.Context, h hand) error {
			h.a.name, h.w.renamed[h.a.id] = h.text, true
			return h.w.people.update(ctx, h.ip, map[string]string{"name": h.text})
		})},
		{3, byHand("delete", func(ctx context.Context, h hand) error {
			h.st.mayMove(h.ip)
			if err := h.takeOff(ctx); err != nil || h.w.isStuck(h.s, h.ip) {
				return err
			}
			gone, err := h.w.people.remove(ctx, h.ip)
			if gone {
				h.v.had = slices.DeleteFunc(h.v.had, func(a address) bool { return a.id == h.ip.ID })
			}
			return err
		})},
		{2, byHand("attach to a stranger", func(ctx context.Context, h hand) error {
			return h.stray(ctx)
		})},
	}
}

// hand is what somebody does by hand to an address of a Service.
type hand struct {
	w  *world
	v  *service
	a  *address
	ip rack.Carried
	s  snapshot
	st *step
	// What was drawn.
	text   string
	lost   bool
	number int
}

// hasAnother reports whether another address of the Service, of the same family, is on an instance:
// people put no two there.
func (h hand) hasAnother(instance string) bool {
	return slices.ContainsFunc(h.w.served(h.s, h.v), func(ip rack.Carried) bool {
		return ip.ID != h.ip.ID && ip.Version() == h.ip.Version() && ip.Instance == instance
	})
}

// byHand makes operations on one of the addresses of a Service.
func byHand(
	verb string, run func(context.Context, hand) error,
) func(*world) (operation, bool) {
	return func(w *world) (operation, bool) {
		name, ok := w.pick(w.servicesThat(isOwn))
		if !ok {
			return operation{}, false
		}
		h := hand{
			w: w, v: w.services[name], text: fmt.Sprintf("by-hand-%d", w.random.Uint32()),
			lost: w.random.IntN(2) == 0, number: w.random.IntN(1000),
		}
		at := h.number % len(h.v.had)
		text := fmt.Sprintf("%s by hand the address %d of %s", verb, at+1, name)
		return operation{text, func(ctx context.Context, before snapshot, st *step) error {
			current := w.current(before, h.v)
			i := slices.IndexFunc(current, func(ip rack.Carried) bool { return ip.ID == h.v.had[at].id })
			if i < 0 {
				return errors.New("the model has lost an address of " + name)
			}
			h.ip, h.s, h.st, h.a = current[i], before, st, &h.v.had[at]
			return run(ctx, h)
		}}, true
	}
}

// takeOff detaches the address, unless Oxide does not, which is not waited for.
func (h hand) takeOff(ctx context.Context) error {
	if h.w.isStuck(h.s, h.ip) {
		return nil
	}
	return ignoreRefusal(h.w.people.detach(ctx, h.ip))
}

// elsewhere attaches the address to another node; it may come back before. Who has a port there may
// have to go.
func (h hand) elsewhere(ctx context.Context, to string) error {
	h.st.mayMove(h.ip)
	for _, other := range h.w.at(h.s, to, h.ip.Version()) {
		if overlap(other.ports, h.v.ports) && !h.ip.Subnet {
			h.st.mayMove(h.w.served(h.s, other)...)
		}
	}
	instance, _ := h.s.rack.Instance(to)
	if err := h.takeOff(ctx); err != nil || h.w.isStuck(h.s, h.ip) {
		return err
	}
	return ignoreRefusal(h.w.people.attach(ctx, h.ip, instance.ID))
}

// describe gives the address another text. The marker may get lost with the old one where the name
// and the status prove whose it is.
func (h hand) describe(ctx context.Context, lost bool) error {
	_, line, _, _ := markerOf(h.ip.Description)
	isProvable := !h.w.renamed[h.ip.ID] && h.ip.AttachState == rack.Attached && h.w.isFit(h.ip.Instance) &&
		publishes(h.s.services[h.v.name], h.ip.Addr) &&
		len(h.w.extra(h.s, h.v)) == 0 && len(h.v.kept) == 0
	h.a.text = h.text
	description := h.text + "\n" + line
	if lost && isProvable {
		description = h.text
	}
	return h.w.people.update(ctx, h.ip, map[string]string{"description": description})
}

// stray attaches the address to an instance that is no node, where a floating IP is left alone, and
// takes it off again. A Service that has a retained address besides would get that one.
func (h hand) stray(ctx context.Context) error {
	if len(h.v.kept) > 0 {
		return nil
	}
	if err := h.elsewhere(ctx, outsider); err != nil {
		return err
	}
	s, missing, err := h.w.settle(ctx)
	if err != nil || len(missing) > 0 {
		return errors.Join(err, fmt.Errorf("while an address is on a stranger: %v", missing))
	}
	for _, ip := range h.w.current(s, h.v) {
		if ip.ID == h.ip.ID && ip.Instance == outsider {
			return ignoreRefusal(h.w.people.detach(ctx, ip))
		}
	}
	return nil // it was brought back, or was stuck
}

func ignoreRefusal(err error) error {
	if errors.Is(err, errRefused) {
		return nil
	}
	return err
}
