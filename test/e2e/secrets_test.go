// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// Both programs log all that they can, through a life with everything that is said of a token: it is used,
// rejected, repeated by whoever answers, and replaced. None of it is in what they print, serve, or write to
// Kubernetes: that is what end checks, in this test as in all others.
func TestNoSecretIsPrintedAtTheHighestVerbosity(t *testing.T) {
	for name, child := range map[string]bool{"two programs": false, "one starts the other": true} {
		t.Run(name, func(t *testing.T) {
			e := newEnvironment(t, settings{
				child: child, shimFlags: stack.VerboseShimFlags, backendFlags: stack.VerboseBackendFlags,
			})
			e.join("node-a")
			e.create("web", objects.TCP(80))
			e.served("web")

			e.must(e.rack.AddFault(e.Context(), rack.Fault{
				Operation: "floating_ip_create", Times: 1, Status: http.StatusBadRequest,
				ContentType: "application/json",
				Body: `{"error_code":"InvalidRequest","message":"no ` + rack.Token +
					` here","request_id":"9d1a5f0e-7a3b-4c1d-8e2f-0123456789ab"}`,
			}))
			e.create("refused", objects.TCP(81))
			e.awaitLogged("no REDACTED here")

			e.must(e.rack.RevokeToken(e.Context()))
			e.register("node-b")
			e.awaitLogged("rejects the token")
			e.must(e.rack.RestoreToken(e.Context()))
			e.initialized("node-b")

			if e.logged("curl -v") == 0 || !child && e.logged("level=DEBUG") == 0 {
				t.Error("the programs do not log all that they can: this test would find nothing")
			}
			if !child {
				e.searchAnswers()
			}
		})
	}
}

// logged counts the lines of all logs of both programs that have these words.
func (e *environment) logged(words string) int {
	e.Helper()
	lines := 0
	for _, p := range []*process.Process{e.ccm.Shim, e.ccm.Backend} {
		if p == nil {
			continue
		}
		text, err := os.ReadFile(p.LogFile())
		e.must(err)
		lines += strings.Count(string(text), words)
	}
	return lines
}

func (e *environment) awaitLogged(words string) {
	e.Helper()
	e.eventually(func(context.Context) (string, error) {
		if e.logged(words) == 0 {
			return fmt.Sprintf("a line with %q", words), nil
		}
		return "", nil
	})
}

// searchAnswers searches what the backend prints about itself when it is asked.
func (e *environment) searchAnswers() {
	e.Helper()
	for _, command := range [][]string{{"status", "-o", "json"}, {"status"}, {"addresses"}, {"explain", "default/web"}} {
		e.operator(command...) // which searches what it prints
	}
	request, err := http.NewRequestWithContext(e.Context(), http.MethodGet, e.ccm.HealthURL("/readyz"), nil)
	e.must(err)
	response, err := http.DefaultClient.Do(request)
	e.must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	e.must(err)
	if shared.secrets.In(text) {
		e.Errorf("a secret is in %q", text)
	}
}
