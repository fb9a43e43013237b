// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// Scripts go by the exit codes.
func TestCommandsForOperatorsAskARunningBackend(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	p := start(t, rack.URL)
	p.awaitReady()
	for _, tc := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no backend", []string{"--socket", p.socket + "x"}, 1, "there is no oxide-backend at " + p.socket + "x"},
		{"a wrong command", []string{"--socket", "x", "-o", "xml"}, 2, "--output"},
		{"a backend without a session", []string{"--socket", p.socket}, 3, "no session runs in this oxide-backend"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := backend.Main(t.Context(), append([]string{"firewall", "list"}, tc.args...), &stdout, &stderr)
			if code != tc.code || !strings.Contains(stderr.String(), tc.says) || stdout.Len() > 0 {
				t.Errorf("exit code %d: %s%s", code, stdout.String(), stderr.String())
			}
			for line := range strings.Lines(stderr.String()) {
				if !strings.HasPrefix(line, "oxide-backend: ") {
					t.Errorf("a line says not who says it: %q", line)
				}
			}
		})
	}
}
