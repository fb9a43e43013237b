// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

const described = `
silos:
- name: demo
  description: TEXT
  images: [{name: of-silo, description: TEXT}]
  projects:
  - name: demo
    description: TEXT
    images: [{name: of-project, description: TEXT}]
    vpcs:
    - name: default
      description: TEXT
      subnets: [{name: default, description: TEXT}]
    - name: more
      description: TEXT
      subnets: [{name: nodes, ipv4_block: 10.1.0.0/22, description: TEXT}]
    instances: [{name: node-1, description: TEXT}]
    floating_ips: [{name: web, description: TEXT}]
ip_pools:
- {name: default, description: TEXT}
- {name: extra, description: TEXT}
subnet_pools:
- {name: routed, description: TEXT}
`

// What a seed adds and what it finds has the description that the seed says.
func TestSeedsDescribeWhatTheyName(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	op := r.as(oxidesim.DefaultOperatorToken)
	for _, text := range []string{"added by a seed", "described by the next one"} {
		seed, err := oxidesim.ParseSeed([]byte(strings.ReplaceAll(described, "TEXT", text)))
		must(t, err)
		must(t, r.Apply(seed))
		for _, path := range []string{
			"/v1/system/silos/demo", "/v1/images/of-silo", "/v1/projects/demo",
			"/v1/images/of-project?project=demo", "/v1/vpcs/default?project=demo",
			"/v1/vpc-subnets/default?project=demo&vpc=default", "/v1/vpcs/more?project=demo",
			"/v1/vpc-subnets/nodes?project=demo&vpc=more", "/v1/instances/node-1?project=demo",
			"/v1/floating-ips/web?project=demo", "/v1/ip-pools/default",
			"/v1/system/ip-pools/extra", "/v1/system/subnet-pools/routed",
		} {
			if got := op.get(path).ok(200).str("description"); got != text {
				t.Errorf("%s: described as %q, want %q", path, got, text)
			}
		}
	}
	// A seed that says nothing leaves the description alone.
	must(t, r.Apply(oxidesim.Seed{Pools: []oxidesim.PoolSeed{{Name: "extra"}}}))
	if op.get("/v1/system/ip-pools/extra").ok(200).str("description") == "" {
		t.Error("a seed without a description has removed it")
	}
}

// The seeds of docs/guides/simulator.md can be applied, and describe what Oxide's Terraform provider
// expects to be described.
func TestTheDocumentedSeedsCanBeApplied(t *testing.T) {
	text, err := os.ReadFile("../../docs/guides/simulator.md")
	must(t, err)
	blocks := strings.Split(string(text), "```yaml\n")[1:]
	if len(blocks) < 2 {
		t.Fatalf("%d seeds found in the documentation", len(blocks))
	}
	for _, block := range blocks {
		body, _, _ := strings.Cut(block, "```")
		seed, err := oxidesim.ParseSeed([]byte(body))
		must(t, err)
		for _, p := range seed.Pools {
			if p.Description == "" {
				t.Errorf("the IP pool %s has no description", p.Name)
			}
		}
		sim, err := oxidesim.New(oxidesim.Config{Seed: &seed})
		must(t, err)
		sim.Close()
	}
}

// docs/guides/simulator.md counts the operations that are served, and names all that are not.
func TestTheDocumentedGapsAreGaps(t *testing.T) {
	const ofTheAPI = 317 // in the description of API version 2026060800.0.0
	text, err := os.ReadFile("../../docs/guides/simulator.md")
	must(t, err)
	_, section, found := strings.Cut(string(text), "### What is missing?\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, table, _ := strings.Cut(section, "\n|---|---|\n")
	if !found || table == "" {
		t.Fatal("the documentation does not say what is missing")
	}
	served := map[string]bool{}
	for _, o := range startRack(t, oxidesim.Config{}).Operations() {
		served[o.ID] = true
	}
	missing := map[string]bool{}
	for _, id := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(table, -1) {
		missing[id[1]] = true
		if served[id[1]] {
			t.Errorf("%s is said to be missing, and is served", id[1])
		}
	}
	if len(served)+len(missing) != ofTheAPI {
		t.Errorf("%d are served and %d missing, of %d", len(served), len(missing), ofTheAPI)
	}
	for _, count := range []int{ofTheAPI, len(served), len(missing)} {
		if !strings.Contains(section, strconv.Itoa(count)) {
			t.Errorf("the documentation does not count %d", count)
		}
	}
}

// A machine that is there already shows a UUID, and an instance of a seed can be it.
func TestASeedGivesAnInstanceItsID(t *testing.T) {
	const id = "8f2f9d1e-6a0b-4c58-9d53-3d0c3d2f7a11"
	r := startRack(t, oxidesim.Config{})
	node, err := r.AddInstance("demo", oxidesim.InstanceSeed{Name: "node-1", ID: id})
	must(t, err)
	op := r.as(oxidesim.DefaultOperatorToken)
	if got := op.get("/v1/instances/" + id).ok(200).str("name"); node.ID != id || got != "node-1" {
		t.Errorf("the instance %s is %q", node.ID, got)
	}
	// A seed that is applied again finds it.
	if _, err := r.AddInstance("demo", oxidesim.InstanceSeed{Name: "node-1", ID: id}); err != nil {
		t.Error(err)
	}
	for id, want := range map[string]string{id: "the instance node-1 has it", "7": "not a UUID"} {
		_, err := r.AddInstance("demo", oxidesim.InstanceSeed{Name: "node-2", ID: id})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a second instance with the id %s: %v, want %s", id, err, want)
		}
	}
}
