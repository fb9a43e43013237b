// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rack

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
)

// Request is a request to the Oxide API that was answered.
type Request struct {
	// Began and Ended are when it came in and when it was answered.
	Began, Ended time.Time
	// Operation is Oxide's operation id, such as floating_ip_attach.
	Operation string
	// Subject is the name or id of the floating IP or external subnet that is asked about; empty: of none.
	Subject string
	// Status is the answer's; 0 if the connection was dropped.
	Status int
}

// LogPrecision is how exact the times of a request are.
const LogPrecision = time.Millisecond

// OK reports whether the answer was no error.
func (q Request) OK() bool { return q.Status >= 200 && q.Status < 300 }

var requestLine = regexp.MustCompile(
	`^time=(\S+) .* path=(\S+) .* operation=(\S+) status=(\S+) duration=(\S+) `)

// Log returns all requests that were answered so far, in the order of their ends.
func (r *Rack) Log() ([]Request, error) {
	text, err := os.ReadFile(r.log)
	if err != nil {
		return nil, fmt.Errorf("cannot read the rack's request log: %w", err)
	}
	var all []Request
	for line := range strings.Lines(string(text)) {
		match := requestLine.FindStringSubmatch(line)
		if match == nil || !strings.HasSuffix(line, "\n") {
			continue
		}
		request := Request{Operation: match[3]}
		if request.Ended, err = time.Parse(time.RFC3339Nano, match[1]); err != nil {
			return nil, fmt.Errorf("the rack's request log has another form: %w", err)
		}
		took, err := time.ParseDuration(match[5])
		if err != nil {
			return nil, fmt.Errorf("the rack's request log has another form: %w", err)
		}
		request.Began = request.Ended.Add(-took)
		if _, err := fmt.Sscan(match[4], &request.Status); err != nil {
			request.Status = 0 // dropped
		}
		for _, kind := range []string{"/v1/floating-ips/", "/v1/external-subnets/"} {
			if rest, ok := strings.CutPrefix(match[2], kind); ok {
				request.Subject, _, _ = strings.Cut(rest, "/")
			}
		}
		all = append(all, request)
	}
	return all, nil
}
