// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// answered is a rig that answers one operation with a body.
func answered(t *testing.T, operation, body string) *rig {
	t.Helper()
	r := start(t, oxidesim.Config{})
	r.fault(oxidesim.Fault{Operation: operation, Status: 200, Body: body})
	return r
}

// A rule of the firewall that only a newer API has spoils no other. It matches nothing, and its name
// is taken all the same.
func TestAFirewallRuleOfAnUnknownKindSpoilsNoOther(t *testing.T) {
	const begin = `{"name": "new", "description": "", "status": "enabled", "direction": "inbound", ` +
		`"action": "allow", "priority": 7, `
	known := firewall.Rule{
		Name: "web", Enabled: true, Inbound: true, Allow: true, Priority: 9,
		Targets: []firewall.Match{{Type: "vpc", Value: "default"}}, Hosts: []firewall.Match{},
		Protocols: []string{"tcp"}, Ports: []firewall.PortRange{{First: 80, Last: 80}},
	}
	https := firewall.Port{Protocol: firewall.TCP, Number: 443}
	http := firewall.Port{Protocol: firewall.TCP, Number: 80}
	for name, end := range map[string]string{
		"a target of a new kind":     `"targets": [{"type": "tag", "value": "a"}], "filters": {}}`,
		"a target of another form":   `"targets": [{"type": "tag", "value": {}}], "filters": {}}`,
		"a host of another form":     `"targets": [], "filters": {"hosts": [{"type": "x", "value": 7}]}}`,
		"a protocol of a new kind":   `"targets": [], "filters": {"protocols": [{"type": "sctp"}]}}`,
		"a protocol of another form": `"targets": [], "filters": {"protocols": ["sctp"]}}`,
		"ports of another form":      `"targets": [], "filters": {"ports": [{"from": 443}]}}`,
		"ports by name":              `"targets": [], "filters": {"ports": ["https"]}}`,
		"an action of a new kind":    `"targets": [], "filters": {}, "action": "log"}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := answered(t, "vpc_firewall_rules_view", `{"rules": [`+begin+end+`, {"name": "web", "description": "",
				"status": "enabled", "direction": "inbound", "action": "allow", "priority": 9,
				"targets": [{"type": "vpc", "value": "default"}],
				"filters": {"ports": ["80"], "protocols": [{"type": "tcp"}]}}]}`)
			rules, err := r.FirewallRules(t.Context(), anID)
			if err != nil || len(rules) != 2 || rules[0].Name != "new" {
				t.Fatalf("%+v, %v", rules, err)
			}
			if diff := cmp.Diff(known, rules[1]); diff != "" {
				t.Errorf("the other rule: -want +got:\n%s", diff)
			}
			at := firewall.Interface{VPCName: "default", Addrs: []netip.Addr{netip.MustParseAddr("172.30.0.5")}}
			closed := firewall.ClosedPorts(rules, at, at.Addrs[0], []firewall.Port{http, https})
			if len(closed) != 1 || closed[0].Port != https {
				t.Errorf("what is not understood opens or closes a port: %+v", closed)
			}
		})
	}
}

func TestAPoolOfUnknownAddressesIsOfNoFamily(t *testing.T) {
	const pools = `{"items": [
		{"id": "a", "name": "new", "ip_version": "v8", "pool_type": "anycast", "is_default": true, "zone": {}},
		{"id": "b", "name": "old", "ip_version": "v4", "pool_type": "unicast", "is_default": true}
	]}`
	r := answered(t, "ip_pool_list", pools)
	got, err := r.IPPools(t.Context())
	if diff := cmp.Diff([]oxide.IPPool{
		{ID: "a", Name: "new", Default: true}, {ID: "b", Name: "old", Bits: 32, Unicast: true, Default: true},
	}, got); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	r = answered(t, "subnet_pool_list", pools)
	subnets, err := r.SubnetPools(t.Context())
	if diff := cmp.Diff([]oxide.SubnetPool{
		{ID: "a", Name: "new", Default: true}, {ID: "b", Name: "old", Bits: 32, Default: true},
	}, subnets); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

func TestAnInstanceInAnUnknownStateSpoilsNoList(t *testing.T) {
	r := startBehind(t, func(rack http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			answer := httptest.NewRecorder()
			req.Header.Del("Accept-Encoding") // its text is changed here
			rack.ServeHTTP(answer, req)
			body := strings.Replace(answer.Body.String(), `"run_state":"stopped"`,
				`"run_state":"hibernating","hibernation":{"since":7},"auto_restart_policy":"on_tuesdays",`+
					`"cpu_platform":"amd_next"`, 1)
			w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
			w.WriteHeader(answer.Code)
			_, _ = w.Write([]byte(body))
		})
	})
	r.instance(oxidesim.InstanceSeed{Name: "node-1"})
	r.instance(oxidesim.InstanceSeed{Name: "node-2", State: "stopped"})
	all, err := r.Instances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for _, instance := range all {
		states[instance.Name] = instance.RunState
	}
	want := map[string]string{"node-1": oxide.RunStateRunning, "node-2": "hibernating"}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// An error for a missing role names the least role that suffices.
func TestTheRoleThatIsMissingIsNamedAsOxideNamesIt(t *testing.T) {
	r := start(t, oxidesim.Config{})
	r.fault(oxidesim.Fault{Operation: "*", Status: 403, ErrorCode: "Forbidden"})
	_, reading := r.InstanceByID(t.Context(), anID)
	_, attaching := r.AttachFloatingIP(t.Context(), anID, anID)
	_, subnet := r.AttachExternalSubnet(t.Context(), anID, anID)
	_, pools := r.IPPools(t.Context())
	_, subnetPools := r.SubnetPools(t.Context())
	for _, tt := range []struct {
		err  error
		role string
	}{
		{pools, "viewer, or more, on the silo"},
		{subnetPools, "viewer, or more, on the silo"},
		{reading, "viewer, or more, on the project"},
		{attaching, "limited_collaborator, or more, on the project"},
		{subnet, "limited_collaborator, or more, on the project"},
		{r.DetachExternalSubnet(t.Context(), anID), "limited_collaborator, or more, on the project"},
		{r.DetachFloatingIP(t.Context(), anID), "limited_collaborator, or more, on the project"},
		{r.ReplaceFirewall(t.Context(), anID, []json.RawMessage{}), "collaborator, or more, on the project"},
		{r.DeleteFloatingIP(t.Context(), anID), "limited_collaborator, or more, on the project"},
	} {
		wantKind(t, tt.err, oxide.KindForbidden)
		want := "it needs the role " + tt.role
		if tt.err == nil || !strings.HasSuffix(tt.err.Error(), want) {
			t.Errorf("it says %v\nwant … %s", tt.err, want)
		}
	}
}
