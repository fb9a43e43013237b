// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// markerPrefix begins every marker line; the version comes first, so that a later format can be told
// apart.
const markerPrefix = "oxide-ccm/"

// legacyDescription is the whole description of floating IPs that the existing Oxide CCM makes.
const legacyDescription = "Managed by oxide-cloud-controller-manager."

var markerPattern = regexp.MustCompile(`^oxide-ccm/v1` +
	` scope=([A-Za-z0-9._-]{1,63})` +
	` name=([A-Za-z0-9._/-]{1,253})` +
	` uid=([A-Za-z0-9._-]{1,63})` +
	` family=(v4|v6)` +
	` source=([A-Za-z0-9.:_-]{1,80})` +
	`( retained)?$`)

// Marker is the line in a floating IP's description that says whose it is. Oxide has no tags, and a
// description is what everybody with the credentials can read and only they can write.
type Marker struct {
	Key      Key
	OwnerUID string
	Family   Family
	// Source is what was wanted when the address was allocated, as Source.String gives it.
	Source string
	// Retained: the load balancer is gone, and its address was to be kept for the next one of the
	// same key.
	Retained bool
}

// String returns the marker's line.
func (m Marker) String() string {
	s := fmt.Sprintf("oxide-ccm/v1 scope=%s name=%s uid=%s family=%s source=%s",
		m.Key.Scope, m.Key.Name, m.OwnerUID, m.Family, m.Source)
	if m.Retained {
		s += " retained"
	}
	return s
}

// ParseMarker finds the marker in a description. It is strict: a description with a marker that was
// edited, or with two, has none that can be believed.
func ParseMarker(description string) (Marker, bool) {
	var found []string
	for line := range strings.Lines(description) {
		if line = strings.TrimRight(line, "\r\n"); strings.HasPrefix(line, markerPrefix) {
			found = append(found, line)
		}
	}
	if len(found) != 1 {
		return Marker{}, false
	}
	fields := markerPattern.FindStringSubmatch(found[0])
	if fields == nil {
		return Marker{}, false
	}
	return Marker{
		Key:      Key{Scope: fields[1], Name: fields[2]},
		OwnerUID: fields[3],
		Family:   Family(fields[4]),
		Source:   fields[5],
		Retained: fields[6] != "",
	}, true
}

// WithMarker returns the description with the marker in place of the one it has, or behind the
// user's own text, which stays as it is. It fails if the result would be longer than Oxide stores.
func WithMarker(description string, m Marker) (string, error) {
	line := m.String()
	if !markerPattern.MatchString(line) {
		return "", fail(ReasonInvalid, nil, "the marker %q would not be understood again", line)
	}
	kept := make([]string, 0, 2)
	placed := false
	for _, old := range strings.Split(description, "\n") {
		switch {
		case !strings.HasPrefix(old, markerPrefix):
			kept = append(kept, old)
		case !placed:
			kept, placed = append(kept, line), true
		}
	}
	if !placed {
		if description == "" {
			kept = kept[:0]
		}
		kept = append(kept, line)
	}
	marked := strings.Join(kept, "\n")
	if over := utf8.RuneCountInString(marked) - oxide.MaxDescription; over > 0 {
		return "", fail(ReasonInvalid, nil, "the description of the address leaves no room for the "+
			"marker; remove %d characters from it", over)
	}
	return marked, nil
}

// WithoutMarker returns the user's own text of a description.
func WithoutMarker(description string) string {
	var kept []string
	for _, line := range strings.Split(description, "\n") {
		if !strings.HasPrefix(line, markerPrefix) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// bearsMarker reports whether a description has a marker, even one that cannot be believed.
func bearsMarker(description string) bool {
	for line := range strings.Lines(description) {
		if strings.HasPrefix(line, markerPrefix) {
			return true
		}
	}
	return false
}
