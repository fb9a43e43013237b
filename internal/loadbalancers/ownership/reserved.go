// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ownership

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
)

const (
	// LinePrefix begins every line in a description that means something here.
	LinePrefix = "oxide-ccm"
	// reservedPrefix begins the line of an address that was reserved for itself. It is no MarkerPrefix:
	// no load balancer has such an address.
	reservedPrefix = "oxide-ccm-reserved/"
)

var (
	reservedPattern = regexp.MustCompile(
		`^oxide-ccm-reserved/v1 source=([A-Za-z0-9.:_-]{1,80}) text=([0-9a-v]{16})$`)
	generatedPattern = regexp.MustCompile(`^lb-.*-[0-9a-v]{16}$`)
)

// Reservation is the line in the description of an address that somebody reserved under a name, without
// a load balancer. It says what was asked for, so that the same request finds the address again, and
// another one is noticed.
type Reservation struct {
	// Source is where the address was to come from, as Source.String returns it.
	Source string
	// Text is a hash of the description that was asked for, which people may change.
	Text string
}

// NewReservation returns the reservation of an address from a source, with a description.
func NewReservation(source Source, description string) Reservation {
	sum := sha256.Sum256([]byte(description))
	return Reservation{
		Source: source.String(), Text: strings.ToLower(hexEncoding.EncodeToString(sum[:10])),
	}
}

// ParseReservation finds the reservation in a description. As with markers, a line that was edited, or
// two of them, say nothing.
func ParseReservation(description string) (Reservation, bool) {
	line, ok := onlyLine(description, reservedPrefix)
	if !ok {
		return Reservation{}, false
	}
	fields := reservedPattern.FindStringSubmatch(line)
	if fields == nil {
		return Reservation{}, false
	}
	return Reservation{Source: fields[1], Text: fields[2]}, true
}

// WithReservation returns a description with the line of a reservation. It fails if the result would be
// longer than Oxide stores.
func WithReservation(description string, r Reservation) (string, error) {
	line := fmt.Sprintf("oxide-ccm-reserved/v1 source=%s text=%s", r.Source, r.Text)
	if !reservedPattern.MatchString(line) {
		return "", fmt.Errorf("the reservation %.100q would not be understood again", line)
	}
	return withLine(description, line, "line that says what was asked for")
}

// OwnText returns a description without the lines that mean something here.
func OwnText(description string) string {
	var kept []string
	for _, line := range strings.Split(description, "\n") {
		if !isOurs(line) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// IsGeneratedName reports whether a name is like those that Name returns.
func IsGeneratedName(name string) bool { return generatedPattern.MatchString(name) }
