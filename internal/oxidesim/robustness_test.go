// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// Whatever comes, whoever sends it, every endpoint answers in the API's own way: with its
// success, or with an error that has a message and the request's id; it is a 500 only where
// the rack has one too, for a rename to a taken name (OXIDE_API.md §8).
func TestNothingBreaksAnEndpoint(t *testing.T) {
	param := regexp.MustCompile(`\{[a-z_]+\}`)
	const nowhere = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
	bodies := []string{
		"", "{", "null", "[]", "7", "{}", `{"name": null}`,
		`{"name": "a", "description": "", "rules": null, "instance": "x", "disk": {}}`,
		`{"name": "x", "description": "", "hostname": "x", "ncpus": 1, "memory": 1073741824,
		  "network_interfaces": {"type": "create", "params": [{}]}, "disks": [{}],
		  "external_ips": [{"type": "floating"}], "ipv4_block": "::/0", "role_assignments": [{}],
		  "allocator": {"type": "auto", "prefix_length": 255}, "subnet": "10.0.0.0/33"}`,
		`{"name": "y", "description": "", "ipv4_block": "0.0.0.0/0", "ipv6_block": "10.0.0.0/8",
		  "allocator": {"type": "explicit", "subnet": "0.0.0.0/0"}, "subnet": "0.0.0.0/0",
		  "first": "0.0.0.0", "last": "255.255.255.255", "query": "get a:b | filter x == \"",
		  "destination": {"type": "ip", "value": "1"}, "target": {"type": "drop"}}`,
	}
	queries := []string{
		"", "project=demo", "project=demo&vpc=default&router=system&instance=x&gateway=default",
		"project=" + nowhere + "&vpc=" + nowhere + "&limit=1&sort_by=id_ascending&silo=demo",
		"page_token=eyJ2IjoidjEifQ==", "project=%00&vpc=/&instance=..&router=&silo=&gateway=",
	}
	for _, secret := range []string{oxidesim.DefaultToken, oxidesim.DefaultOperatorToken, "no"} {
		sim, err := oxidesim.New(oxidesim.Config{TimeScale: 1e-6})
		must(t, err)
		defer sim.Close()
		send := func(method, path, query, body string) {
			req := httptest.NewRequest(method, "http://rack"+path+"?"+query, strings.NewReader(body))
			req.Header.Set("Authorization", "Bearer "+secret)
			w := httptest.NewRecorder()
			sim.Handler().ServeHTTP(w, req)
			check(t, method+" "+path+" "+query+" "+body, w)
		}
		for _, op := range sim.Operations() {
			for _, name := range []string{"default", "x", nowhere, "%2e%2e%2f", "a.b"} {
				path := param.ReplaceAllString(op.Path, name)
				for _, query := range queries {
					send(op.Method, path, query, "{}")
				}
				if op.Method == http.MethodPost || op.Method == http.MethodPut {
					for _, body := range bodies {
						send(op.Method, path, "project=demo&vpc=default", body)
					}
				}
			}
		}
	}
}

func check(t *testing.T, what string, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code < http.StatusBadRequest {
		return
	}
	var e struct {
		RequestID string `json:"request_id"`
		Message   string `json:"message"`
	}
	rename := w.Code == http.StatusInternalServerError && strings.HasPrefix(what, "PUT ")
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Message == "" ||
		e.RequestID != w.Header().Get("X-Request-Id") ||
		w.Code >= http.StatusInternalServerError && !rename {
		t.Errorf("%s: %d %s", what, w.Code, w.Body)
	}
}
