// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"slices"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// checkAddresses finds addresses that were lost, or changed in another way than by their markers.
func (e *expectation) checkAddresses(found *problems, st step) {
	byID := make(map[string]rack.Carried)
	for _, ip := range st.now.rack.Carried() {
		byID[ip.ID] = ip
		m, _, _, marked := markerOf(ip.Description)
		if _, other := e.others[ip.ID]; !other && (!marked || m.scope != e.scope ||
			e.services[strings.TrimPrefix(m.name, namespace+"/")] == nil) {
			found.add(noneLost, "%s, %q, is nobody's", ip.Name, ip.Description)
		}
	}
	for _, v := range e.services {
		known := slices.Clone(v.kept)
		if isLive(v) && !st.replaced[v.name] && v.borrows == "" {
			known = append(known, v.had...)
		}
		for _, a := range known {
			now, there := byID[a.id]
			_, _, text, _ := markerOf(now.Description)
			switch {
			case !there: // unless it was to go, it is missing below
			case now.Addr != a.ip:
				found.add(noneLost, "%s has lost its address %s", v.name, a.ip)
			case now.Name != a.name:
				found.add(noneShared, "the address %s of %s was renamed from %s to %s", a.ip, v.name, a.name,
					now.Name)
			case text != a.text:
				found.add(noneLost, "the text of a user with %s, %q, is %q now", a.ip, a.text, text)
			}
		}
		for _, ip := range e.of(st.now, v.name, true) {
			isKnown := slices.ContainsFunc(v.kept, func(a address) bool { return a.id == ip.ID })
			if !isKnown && !v.mayKeep {
				found.add(noneLost, "%s of %s is retained, and nobody has asked for that", ip.Addr, v.name)
			}
		}
		for _, a := range v.kept {
			if _, there := byID[a.id]; !there {
				found.add(noneLost, "%s has lost its address %s", v.name, a.ip)
			}
		}
		if isLive(v) && !st.replaced[v.name] && v.borrows == "" {
			for _, kind := range v.kinds() {
				e.checkKept(found, st, v, kind)
			}
		}
	}
}

// checkKept finds addresses of a kind that were released although they could have been kept, and new
// ones although others would have done. Of too many those go first whose nodes are not fit.
func (e *expectation) checkKept(found *problems, st step, v *service, kind kindOfAddress) {
	isOf := func(a address) bool { return a.kind == kind && (v.desired == "" || v.desired == a.ip) }
	now := make(map[string]bool)
	for _, ip := range e.current(st.now, v) {
		now[ip.ID] = kind.has(ip)
	}
	var had, stayed, gone, fresh []string
	for _, a := range v.had {
		switch {
		case !isOf(a):
			continue
		case now[a.id]:
			stayed = append(stayed, a.id)
		default:
			gone = append(gone, a.id)
		}
		had = append(had, a.ip)
	}
	known := slices.Concat(v.had, v.kept)
	for _, ip := range e.current(st.now, v) {
		if kind.has(ip) && !slices.ContainsFunc(known, func(a address) bool { return a.id == ip.ID }) {
			fresh = append(fresh, ip.Addr)
		}
	}
	owed := e.owed(st.now, v, kind)
	if !v.exchanging && len(gone) > max(0, len(had)-owed) {
		found.add(noneLost, "%s had the addresses %v, and has lost %d of them", v.name, had, len(gone))
	}
	usable := len(slices.DeleteFunc(known, func(a address) bool { return !isOf(a) }))
	if !v.exchanging && len(fresh) > max(0, owed-usable) {
		found.add(noneLost, "%s has got %v, and has %d of its own or kept for it", v.name, fresh, usable)
	}
	serves := func(id string) bool {
		return slices.ContainsFunc(st.before.rack.Carried(), func(ip rack.Carried) bool {
			return ip.ID == id && ip.AttachState == rack.Attached && e.isSteady(st, ip.Instance)
		})
	}
	isIdle := func(id string) bool {
		return slices.ContainsFunc(st.before.rack.Carried(), func(ip rack.Carried) bool {
			return ip.ID == id && !e.isFit(ip.Instance)
		})
	}
	if slices.ContainsFunc(gone, serves) && slices.ContainsFunc(stayed, isIdle) {
		found.add(leastMovement, "%s had %v, and has lost one that served for one that did not", v.name, had)
	}
}
