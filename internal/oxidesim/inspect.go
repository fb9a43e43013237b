// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Instance is what a rack knows of an instance, including what its API does not show.
type Instance struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Silo       string            `json:"silo"`
	Project    string            `json:"project"`
	RunState   string            `json:"run_state"`
	PrivateIPs map[string]string `json:"private_ips"`            // of the primary NIC, by "v4", "v6"
	Sled       string            `json:"sled,omitempty"`         // serial number
	SledID     string            `json:"sled_id,omitempty"`      // absent without a VMM
	Floating   []string          `json:"floating_ips,omitempty"` // fully attached addresses
}

// FloatingIP is what a rack knows of a floating IP. AttachState is the hidden column:
// detached, attaching, attached or detaching; the instance is set in all but the first.
type FloatingIP struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Silo        string `json:"silo"`
	Project     string `json:"project"`
	IP          string `json:"ip"`
	Pool        string `json:"pool"`
	AttachState string `json:"attach_state"`
	InstanceID  string `json:"instance_id,omitempty"`
	Instance    string `json:"instance,omitempty"` // its name, if it is still there
}

// ExternalSubnet is what a rack knows of an external subnet; its states are those of a
// floating IP.
type ExternalSubnet struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Silo        string `json:"silo"`
	Project     string `json:"project"`
	Subnet      string `json:"subnet"`
	Pool        string `json:"pool"`
	AttachState string `json:"attach_state"`
	InstanceID  string `json:"instance_id,omitempty"`
	Instance    string `json:"instance,omitempty"` // its name, if it is still there
}

// Sled is a server of the rack.
type Sled struct {
	ID     string `json:"id"`
	Serial string `json:"serial"`
	State  string `json:"state"` // reachable, unreachable, powered_off or expunged
}

// State is a snapshot of the whole rack.
type State struct {
	RackID      string       `json:"rack_id"`
	APIVersion  string       `json:"api_version"`
	TimeScale   float64      `json:"time_scale"`
	Sleds       []Sled       `json:"sleds"`
	Instances   []Instance   `json:"instances"`
	FloatingIPs []FloatingIP `json:"floating_ips"`

	ExternalSubnets []ExternalSubnet `json:"external_subnets"`
}

// Operation is an endpoint of the API: what counters and fault rules go by, and where it is.
type Operation struct {
	ID     string `json:"id"`
	Method string `json:"method"`
	Path   string `json:"path"`
}

// Operations lists all endpoints of the API, sorted by path and method.
func (s *Simulator) Operations() []Operation {
	var out []Operation
	for _, r := range s.routes() {
		out = append(out, Operation{r.operation, r.method, r.pattern})
	}
	slices.SortFunc(out, func(a, b Operation) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
	return out
}

// State takes a snapshot of the rack; lists are sorted by project, then name.
func (s *Simulator) State() State {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := State{
		RackID: s.rackID.String(), APIVersion: s.cfg.APIVersion, TimeScale: s.clock.scale,
		Sleds: []Sled{}, Instances: []Instance{}, FloatingIPs: []FloatingIP{},
		ExternalSubnets: []ExternalSubnet{},
	}
	for _, sl := range s.db.sleds {
		out.Sleds = append(out.Sleds, Sled{sl.id.String(), sl.serial, string(sl.state)})
	}
	at := map[string]int{}
	for _, i := range s.db.instances.rows {
		out.Instances = append(out.Instances, s.inspectInstance(i))
	}
	slices.SortFunc(out.Instances, func(a, b Instance) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Name, b.Name))
	})
	for n, i := range out.Instances {
		at[i.ID] = n
	}
	for _, f := range s.db.floatingIPs.rows {
		out.FloatingIPs = append(out.FloatingIPs, s.inspectFloatingIP(f))
	}
	slices.SortFunc(out.FloatingIPs, func(a, b FloatingIP) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Name, b.Name))
	})
	for _, e := range s.db.externalSubnets.rows {
		out.ExternalSubnets = append(out.ExternalSubnets, s.inspectExternalSubnet(e))
	}
	slices.SortFunc(out.ExternalSubnets, func(a, b ExternalSubnet) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Name, b.Name))
	})
	for _, f := range out.FloatingIPs {
		if n, ok := at[f.InstanceID]; ok && f.AttachState == string(attached) {
			out.Instances[n].Floating = append(out.Instances[n].Floating, f.IP)
		}
	}
	return out
}

// Instances lists all instances of the rack.
func (s *Simulator) Instances() []Instance { return s.State().Instances }

// FloatingIPs lists all floating IPs of the rack.
func (s *Simulator) FloatingIPs() []FloatingIP { return s.State().FloatingIPs }

// ExternalSubnets lists all external subnets of the rack.
func (s *Simulator) ExternalSubnets() []ExternalSubnet { return s.State().ExternalSubnets }

// FirewallRules lists the firewall rules of all VPCs with a name, as the API shows them.
func (s *Simulator) FirewallRules(vpcName string) []json.RawMessage {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []json.RawMessage
	for _, v := range s.db.vpcs.rows {
		if v.name != vpcName {
			continue
		}
		for _, r := range v.rules {
			out = append(out, mustJSON(r))
		}
	}
	return out
}

func (s *Simulator) places(project uuid.UUID) (siloName, projectName string) {
	p, ok := s.db.projects.rows[project]
	if !ok {
		return "", ""
	}
	return s.db.silos.rows[p.parent].name, p.name
}

func (s *Simulator) inspectInstance(i *instance) Instance {
	out := Instance{
		ID: i.id.String(), Name: i.name, RunState: string(i.state),
		PrivateIPs: map[string]string{},
	}
	out.Silo, out.Project = s.places(i.project)
	if i.vmm != nil {
		out.Sled, out.SledID = i.vmm.sled.serial, i.vmm.sled.id.String()
	}
	if n := s.primaryNIC(i); n != nil {
		for version, st := range n.stacks {
			out.PrivateIPs[version] = st.ip.String()
		}
	}
	return out
}

func (s *Simulator) inspectFloatingIP(f *floatingIP) FloatingIP {
	out := FloatingIP{
		ID: f.id.String(), Name: f.name, Description: f.description, IP: f.ip.String(),
		Pool: f.pool.name, AttachState: string(f.state),
	}
	out.Silo, out.Project = s.places(f.project)
	out.InstanceID, out.Instance = s.inspectHolder(f.attachment)
	return out
}

func (s *Simulator) inspectExternalSubnet(e *externalSubnet) ExternalSubnet {
	out := ExternalSubnet{
		ID: e.id.String(), Name: e.name, Description: e.description, Subnet: e.net.String(),
		Pool: e.pool.name, AttachState: string(e.state),
	}
	out.Silo, out.Project = s.places(e.project)
	out.InstanceID, out.Instance = s.inspectHolder(e.attachment)
	return out
}

// inspectHolder is the instance that something is tied to, and its name if it is there.
func (s *Simulator) inspectHolder(a attachment) (id, name string) {
	if a.instance != uuid.Nil {
		id = a.instance.String()
	}
	if i, ok := s.db.instances.rows[a.instance]; ok {
		name = i.name
	}
	return id, name
}

// pick finds a row by id or by name, which may be qualified by what it is in, as far as it
// takes to be unambiguous: name, project/name, silo/project/name.
func pick[T row](s *Simulator, t *table[T], which string) (T, error) {
	var none T
	if id, err := uuid.Parse(which); err == nil {
		if r, ok := t.rows[id]; ok {
			return r, nil
		}
		return none, fmt.Errorf("no %s has the id %s", t.kind, which)
	}
	var found []T
	for _, r := range t.rows {
		if full := s.fullName(r.base()); strings.HasSuffix("/"+full, "/"+which) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return none, fmt.Errorf("no %s is named %q", t.kind, which)
	case 1:
		return found[0], nil
	}
	return none, fmt.Errorf("more than one %s is named %q: say what it is in, as in "+
		"silo/project/name, or the id", t.kind, which)
}

// fullName is the name of a row with those of the silo and the project that it is in.
func (s *Simulator) fullName(m *meta) string {
	name := m.name
	if p, ok := s.db.projects.rows[m.project]; ok {
		if p.id != m.id {
			name = p.name + "/" + name
		}
		return s.db.silos.rows[p.parent].name + "/" + name
	}
	if sl, ok := s.db.silos.rows[m.parent]; ok {
		name = sl.name + "/" + name
	}
	return name
}
