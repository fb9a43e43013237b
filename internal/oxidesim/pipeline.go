// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	maxBody     = 1 << 20
	minGzipBody = 512
)

// reply is an answer, ready to be sent.
type reply struct {
	status      int
	contentType string
	body        []byte
	fault       *faultEffect
}

// serve runs one request. The work is detached from the client: nothing here looks at the
// request's context, so a client that goes away does not stop what it has begun.
func (s *Simulator) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, AdminPrefix) {
		s.admin.ServeHTTP(w, r)
		return
	}
	began := time.Now()
	requestID := uuid.NewString()
	w.Header().Set("X-Request-Id", requestID)
	operation := "unknown"
	status := 0 // the connection was dropped
	defer func() {
		s.count.add(operation, status)
		s.log.line(r, operation, status, time.Since(began), requestID)
	}()

	restart := s.nexus.current()
	rt, params, err := s.admit(r)
	if rt != nil {
		operation = rt.operation
	}
	if m := (*methodError)(nil); errors.As(err, &m) {
		w.Header().Set("Allow", strings.Join(m.allowed, ", "))
	}
	if !s.pause(s.cfg.Latency, restart) || errors.Is(err, errConnectionLost) {
		panic(http.ErrAbortHandler)
	}
	out := s.answer(rt, params, r, err, requestID)
	if out == nil {
		panic(http.ErrAbortHandler)
	}
	status = out.status
	send(w, r, out)
}

// admit checks what is checked before any handler runs: the version header, then the route.
func (s *Simulator) admit(r *http.Request) (*route, map[string]string, error) {
	if s.nexusDown() {
		return nil, nil, errConnectionLost
	}
	if err := s.checkVersion(r.Header); err != nil {
		return nil, nil, err
	}
	return s.router.find(r.Method, r.URL.EscapedPath())
}

// answer makes the reply of one request, or nil if the connection is to be dropped.
func (s *Simulator) answer(
	rt *route, params map[string]string, r *http.Request, err error, requestID string,
) *reply {
	var effect *faultEffect
	if rt != nil {
		effect = s.faults.match(rt)
	}
	if effect != nil && !s.pause(effect.latency, s.nexus.current()) {
		return nil
	}
	var body any
	if err == nil && (effect == nil || !effect.skip) {
		body, err = s.run(rt, params, r, effect)
	}
	if effect != nil && (effect.skip || effect.Status != 0) {
		err = effect.err()
	}
	if errors.Is(err, errConnectionLost) || effect != nil && effect.dropsAll() {
		return nil
	}
	out := &reply{contentType: "application/json", fault: effect}
	if err != nil {
		out.status, out.body = errorReply(err, requestID)
		return out
	}
	out.status = rt.success
	if out.status != http.StatusNoContent {
		out.body = mustJSON(body)
	}
	return out
}

// run authenticates the caller and runs the handler, under the lock unless it is phased.
func (s *Simulator) run(
	rt *route, params map[string]string, r *http.Request, effect *faultEffect,
) (any, error) {
	c := &call{
		sim: s, params: params, query: r.URL.Query(), contentType: r.Header.Get("Content-Type"),
		fault: effect,
	}
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		body, err := readBody(r)
		if err != nil {
			return nil, err
		}
		c.body = body
	}
	if rt.phased {
		s.mu.RLock()
		err := s.login(c, rt, r.Header)
		s.mu.RUnlock()
		if err != nil {
			return nil, err
		}
		return rt.handle(c)
	}
	if rt.method == http.MethodGet {
		s.mu.RLock()
		defer s.mu.RUnlock()
	} else {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	if err := s.login(c, rt, r.Header); err != nil {
		return nil, err
	}
	return rt.handle(c)
}

// readBody reads a request body, whatever is in it.
func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, badInput("unable to read the request body")
	}
	if len(body) > maxBody {
		return nil, badInput("request body exceeded maximum size of %d bytes", maxBody)
	}
	return body, nil
}

func errorReply(err error, requestID string) (int, []byte) {
	var e *apiError
	if !errors.As(err, &e) {
		panic(err) // a handler returned something that is no answer
	}
	return e.status, mustJSON(errorBody{requestID, e.code, e.message})
}

func mustJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // own types only
	}
	return raw
}

// send writes the reply, compressed when the client asks for it.
func send(w http.ResponseWriter, r *http.Request, out *reply) {
	if out.fault != nil {
		out.fault.distort(w, out)
		return
	}
	if out.body == nil {
		w.WriteHeader(out.status)
		return
	}
	h := w.Header()
	h.Set("Content-Type", out.contentType)
	if len(out.body) >= minGzipBody && acceptsGzip(r) {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		w.WriteHeader(out.status)
		z := gzip.NewWriter(w)
		defer z.Close()
		_, _ = z.Write(out.body) // the client may be gone; the work is done all the same
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(out.body)))
	w.WriteHeader(out.status)
	_, _ = w.Write(out.body)
}

func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name == "gzip" && strings.ReplaceAll(q, " ", "") != "q=0" {
			return true
		}
	}
	return false
}
