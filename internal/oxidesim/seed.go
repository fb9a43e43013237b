// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"sigs.k8s.io/yaml"
)

// Seed is a description of what is on a rack, in YAML or JSON. Everything in it is named, and all
// but users may have a description; applying a seed to a rack adds what is not there yet and changes
// what it says of the rest, so that several seeds may be applied one after another.
type Seed struct {
	Sleds int        `json:"sleds,omitempty"` // how many sleds there are at least
	Silos []SiloSeed `json:"silos,omitempty"`
	Pools []PoolSeed `json:"ip_pools,omitempty"`

	SubnetPools []SubnetPoolSeed `json:"subnet_pools,omitempty"`

	// ShowDestroyed makes lists say "destroyed" during the end of a stop; see Simulator.ShowDestroyed.
	ShowDestroyed bool `json:"show_destroyed,omitempty"`
}

// SiloSeed is a silo with the people and projects in it.
type SiloSeed struct {
	Name        string        `json:"name"`
	Description string        `json:"description,omitempty"`
	Users       []UserSeed    `json:"users,omitempty"`
	Projects    []ProjectSeed `json:"projects,omitempty"`
	Images      []ImageSeed   `json:"images,omitempty"` // for all projects
}

// UserSeed is a user. Roles are viewer, limited_collaborator, collaborator or admin.
type UserSeed struct {
	Name      string      `json:"name"`
	SiloRole  string      `json:"silo_role,omitempty"`
	FleetRole string      `json:"fleet_role,omitempty"`
	Tokens    []TokenSeed `json:"tokens,omitempty"`
}

// TokenSeed is a credential: the secret that a client sends, and when it ends (absent:
// never).
type TokenSeed struct {
	Secret  string     `json:"secret"`
	Expires *time.Time `json:"expires,omitempty"`
}

// ProjectSeed is a project. It always has the VPC `default` with the subnet `default`. Roles
// maps names of users to the role that they have on this project.
type ProjectSeed struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Roles       map[string]string `json:"roles,omitempty"`
	VPCs        []VPCSeed         `json:"vpcs,omitempty"`
	Instances   []InstanceSeed    `json:"instances,omitempty"`
	FloatingIPs []FloatingIPSeed  `json:"floating_ips,omitempty"`
	Images      []ImageSeed       `json:"images,omitempty"`

	ExternalSubnets []ExternalSubnetSeed `json:"external_subnets,omitempty"`
}

// VPCSeed is a VPC; subnets besides its default one.
type VPCSeed struct {
	Name        string       `json:"name"`
	Description string       `json:"description,omitempty"`
	Subnets     []SubnetSeed `json:"subnets,omitempty"`
}

// SubnetSeed is a subnet with a private IPv4 block such as 10.1.0.0/22.
type SubnetSeed struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	IPv4Block   string `json:"ipv4_block"`
	IPv6Block   string `json:"ipv6_block,omitempty"`
}

// InstanceSeed is an instance. What is absent is: a random id, hostname as the name, 2 CPUs,
// 4 GiB, running, one NIC on default/default with the IP versions of NICs ("v4", "v6", "dual" or
// "none"; default dual), auto restart as if nothing was said.
type InstanceSeed struct {
	Name              string   `json:"name"`
	ID                string   `json:"id,omitempty"` // a UUID, which a new instance gets
	Description       string   `json:"description,omitempty"`
	Hostname          string   `json:"hostname,omitempty"`
	NCPUs             uint16   `json:"ncpus,omitempty"`
	MemoryGiB         uint64   `json:"memory_gib,omitempty"`
	State             string   `json:"run_state,omitempty"` // running, stopped or failed
	AutoRestartPolicy string   `json:"auto_restart_policy,omitempty"`
	NIC               string   `json:"nic,omitempty"`
	VPC               string   `json:"vpc,omitempty"`
	Subnet            string   `json:"subnet,omitempty"`
	IP                string   `json:"ip,omitempty"`
	TransitIPs        []string `json:"transit_ips,omitempty"`
	Ephemeral         bool     `json:"ephemeral,omitempty"`
	Sled              *int     `json:"sled,omitempty"` // which sled it runs on, from 0
}

// ImageSeed is an image to make boot disks from; 1 GiB unless told.
type ImageSeed struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	OS          string `json:"os,omitempty"`
	Version     string `json:"version,omitempty"`
	SizeGiB     uint64 `json:"size_gib,omitempty"`
}

// FloatingIPSeed is a floating IP, from a pool (default: the silo's) or with a given
// address, attached if an instance is named.
type FloatingIPSeed struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	IP          string `json:"ip,omitempty"`
	Pool        string `json:"pool,omitempty"`
	Instance    string `json:"instance,omitempty"`
}

// ExternalSubnetSeed is an external subnet: a given one, or one of a prefix length (default: that of a
// single address) from a pool (default: the silo's, of IPv4). It is attached if an instance is named.
type ExternalSubnetSeed struct {
	Name         string `json:"name"`
	Description  string `json:"description,omitempty"`
	Subnet       string `json:"subnet,omitempty"`
	PrefixLength uint8  `json:"prefix_length,omitempty"`
	Pool         string `json:"pool,omitempty"`
	Instance     string `json:"instance,omitempty"`
}

// PoolSeed is an IP pool with its ranges and the silos that may use it.
type PoolSeed struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	IPVersion   string         `json:"ip_version,omitempty"` // v4 (default) or v6
	PoolType    string         `json:"pool_type,omitempty"`  // unicast (default) or multicast
	Ranges      []RangeSeed    `json:"ranges,omitempty"`
	Silos       []PoolLinkSeed `json:"silos,omitempty"`
}

// RangeSeed is a range of addresses, both ends included.
type RangeSeed struct {
	First string `json:"first"`
	Last  string `json:"last"`
}

// PoolLinkSeed lets a silo use a pool, perhaps as its default one.
type PoolLinkSeed struct {
	Silo    string `json:"silo"`
	Default bool   `json:"default,omitempty"`
}

// ParseSeed reads a seed in YAML or JSON; unknown fields are errors.
func ParseSeed(text []byte) (Seed, error) {
	var seed Seed
	err := yaml.UnmarshalStrict(text, &seed)
	return seed, err
}

// Names and secrets of the built-in rack.
const (
	DefaultSilo          = "demo"
	DefaultProject       = "demo"
	DefaultToken         = "oxide-token-51d051d051d051d051d051d051d051d051d051d0"
	DefaultOperatorToken = "oxide-token-0be7a70a0be7a70a0be7a70a0be7a70a0be7a70a"
)

// DefaultSeed is the built-in small rack: four sleds, the silo and project `demo`, a user
// that may do everything in the silo but manage it, an operator, a default pool of IPv4
// addresses and another of IPv6 addresses that is not the default, and two such pools of networks
// for external subnets, from which single addresses can be taken.
func DefaultSeed() Seed {
	return Seed{
		Sleds: 4,
		Silos: []SiloSeed{{
			Name: DefaultSilo,
			Users: []UserSeed{
				{
					Name: "demo", SiloRole: "collaborator",
					Tokens: []TokenSeed{{Secret: DefaultToken}},
				},
				{
					Name: "operator", SiloRole: "admin", FleetRole: "admin",
					Tokens: []TokenSeed{{Secret: DefaultOperatorToken}},
				},
			},
			Projects: []ProjectSeed{{Name: DefaultProject, Description: "A place to try things"}},
			Images:   []ImageSeed{{Name: "debian-13", OS: "debian", Version: "13", SizeGiB: 2}},
		}},
		Pools: []PoolSeed{
			{
				Name: "default", IPVersion: v4,
				Ranges: []RangeSeed{{"198.51.100.10", "198.51.100.250"}},
				Silos:  []PoolLinkSeed{{Silo: DefaultSilo, Default: true}},
			},
			{
				Name: "default-v6", IPVersion: v6,
				Ranges: []RangeSeed{{"2001:db8:51::10", "2001:db8:51::ffff"}},
				Silos:  []PoolLinkSeed{{Silo: DefaultSilo}},
			},
		},
		SubnetPools: []SubnetPoolSeed{
			{
				Name: "subnets", IPVersion: v4,
				Members: []SubnetPoolMemberSeed{{Subnet: "198.18.0.0/24"}},
				Silos:   []PoolLinkSeed{{Silo: DefaultSilo, Default: true}},
			},
			{
				Name: "subnets-v6", IPVersion: v6,
				Members: []SubnetPoolMemberSeed{{Subnet: "2001:db8:18::/64"}},
				Silos:   []PoolLinkSeed{{Silo: DefaultSilo}},
			},
		},
	}
}

// Apply adds a seed to the rack. An error names the first thing that could not be added;
// what came before it stays.
func (s *Simulator) Apply(seed Seed) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.showDestroyed = s.showDestroyed || seed.ShowDestroyed
	for len(s.db.sleds) < max(seed.Sleds, 1) {
		s.db.sleds = append(s.db.sleds, newSled(len(s.db.sleds)))
	}
	for _, w := range seed.Silos {
		sl, err := s.db.silos.named(uuid.Nil, w.Name)
		if err == nil {
			err = describe(s, s.db.silos, sl, w.Description)
		} else {
			err = s.db.silos.insert(s.newSilo(w.Name, w.Description))
		}
		if err != nil {
			return seedError("silo", w.Name, err)
		}
	}
	for _, w := range seed.Pools {
		if err := s.applyPool(w); err != nil {
			return seedError("IP pool", w.Name, err)
		}
	}
	for _, w := range seed.SubnetPools {
		if err := s.applySubnetPool(w); err != nil {
			return seedError("subnet pool", w.Name, err)
		}
	}
	for _, w := range seed.Silos {
		if err := s.applySilo(w); err != nil {
			return seedError("silo", w.Name, err)
		}
	}
	return nil
}

// describe gives what is there already the description that a seed says, if it says one.
func describe[T row](s *Simulator, t *table[T], r T, description string) error {
	if description == "" || description == r.base().description {
		return nil
	}
	return t.rename(r, nil, &description, s.clock.now())
}

func seedError(kind, name string, err error) error {
	return fmt.Errorf("seed: %s %q: %w", kind, name, err)
}

func (s *Simulator) applySilo(w SiloSeed) error {
	sl, err := s.db.silos.named(uuid.Nil, w.Name)
	if err != nil {
		return err
	}
	for _, u := range w.Users {
		if err := s.applyUser(sl, u); err != nil {
			return seedError("user", u.Name, err)
		}
	}
	for _, i := range w.Images {
		if err := s.applyImage(uuid.Nil, sl.id, i); err != nil {
			return seedError("image", i.Name, err)
		}
	}
	for _, p := range w.Projects {
		if err := s.applyProject(sl, p); err != nil {
			return seedError("project", p.Name, err)
		}
	}
	return nil
}

func (s *Simulator) applyUser(sl *silo, w UserSeed) error {
	u, err := s.db.users.named(sl.id, w.Name)
	if err != nil {
		u = &user{meta: s.newMeta(uuid.Nil, sl.id, w.Name, "")}
		if err := s.db.users.insert(u); err != nil {
			return err
		}
	}
	if w.SiloRole != "" {
		r, err := parseRole(w.SiloRole)
		if err != nil {
			return err
		}
		sl.roles[u.id] = r
	}
	if w.FleetRole != "" {
		if u.fleet, err = parseRole(w.FleetRole); err != nil {
			return err
		}
	}
	for _, t := range w.Tokens {
		s.db.tokens[t.Secret] = &token{
			id: uuid.New(), user: u, created: s.clock.now(), expires: t.Expires,
		}
	}
	return nil
}

func parseRole(name string) (role, error) {
	r, ok := roleNames[name]
	if !ok && name != "none" {
		return roleNone, fmt.Errorf("role %q: must be viewer, limited_collaborator, "+
			"collaborator, admin or none", name)
	}
	return r, nil
}
