// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// Whatever answers in Oxide's place, with any status, content type and body: the call ends with an error of
// this package, or with what the body holds. The error is one short line without the token, even if the
// body repeats it, and whoever logs it as JSON can.
func FuzzErrorBodies(f *testing.F) {
	const mediaType = "application/json"
	for _, seed := range []struct {
		status          int
		mediaType, body string
	}{
		{400, mediaType, `{"error_code":"InvalidRequest","message":"no\nsuch ` + oldToken + `","request_id":"r"}`},
		{400, mediaType, `{"error_code":"ObjectAlreadyExists","message":"` + strings.Repeat("ä", 400) + `"}`},
		{404, mediaType, `{"error_code":"ObjectNotFound","message":"not found: floating-ip"}`},
		{404, "text/html", `<html>` + oldToken + `</html>`},
		{401, mediaType, `{}`}, {403, "", ``}, {507, mediaType, `{"message":{}}`}, {500, mediaType, `null`},
		{200, mediaType, `{"id":7}`}, {202, "text/plain", oldToken}, {202, mediaType, `{"id":"` + anID + `"}`},
		{302, mediaType, `[`}, {999, mediaType, "\xff\xfe"}, {503, mediaType, `{"message":"\u0000\u2028\ud800"}`},
	} {
		f.Add(seed.status, seed.mediaType, seed.body)
	}
	var mu sync.Mutex
	var status int
	var contentType, body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("X-Request-Id", body)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	f.Cleanup(server.Close)
	client, _ := newClient(f, server.URL, withToken(static(f, oldToken)))
	f.Cleanup(client.Close)
	f.Fuzz(func(t *testing.T, with int, of, text string) {
		mu.Lock()
		status, contentType, body = 200+with%800, of, text
		if with >= 200 && with < 1000 {
			status = with
		} else if status < 200 {
			status += 800
		}
		mu.Unlock()
		for what, call := range map[string]func() error{
			"detach": func() error { return client.DetachFloatingIP(t.Context(), anID) },
			"create": func() error {
				_, err := client.CreateFloatingIP(t.Context(), "web", "mine", oxide.IPAllocator{DefaultPool4: true})
				return err
			},
		} {
			err := call()
			if err == nil {
				if status >= 300 {
					t.Errorf("%s: HTTP %d is a success", what, status)
				}
				continue
			}
			var e *oxide.Error
			if !errors.As(err, &e) {
				t.Fatalf("%s: %T: %v", what, err, err)
			}
			said := err.Error()
			if len(said) > 500 || strings.ContainsAny(said, "\r\n\t\x00") || !utf8.ValidString(said) ||
				strings.Contains(said, oldToken) || strings.Contains(said, server.URL) {
				t.Errorf("%s: it is no short line fit for an event: %q", what, said)
			}
			if _, err := json.Marshal(said); err != nil {
				t.Error(err)
			}
		}
	})
}
