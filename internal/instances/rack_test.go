// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances_test

import (
	"bytes"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

// requests gives what was asked of the rack since the last call, by operation.
func (w *world) requests() map[string]int {
	w.t.Helper()
	found := map[string]int{}
	for operation, byStatus := range w.rack.Counters() {
		for _, n := range byStatus {
			found[operation] += n
		}
	}
	w.rack.ResetCounters()
	return found
}

// rewrite replaces text in what the rack answers below a path.
func (w *world) rewrite(path, old, replacement string) {
	rack := w.rack.Handler()
	w.handle(func(rw http.ResponseWriter, r *http.Request) {
		r.Header.Del("Accept-Encoding")
		answer := httptest.NewRecorder()
		rack.ServeHTTP(answer, r)
		body := answer.Body.Bytes()
		if strings.HasSuffix(r.URL.Path, path) {
			body = bytes.ReplaceAll(body, []byte(old), []byte(replacement))
		}
		maps.Copy(rw.Header(), answer.Header())
		rw.Header().Del("Content-Length")
		rw.WriteHeader(answer.Code)
		_, _ = rw.Write(body)
	})
}

// log gathers what is logged until the test ends.
func (w *world) log() *logBuffer {
	logged := &logBuffer{}
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(logged, nil)))
	w.t.Cleanup(func() { slog.SetDefault(before) })
	return logged
}

type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
