// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ownership

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

const (
	// MarkerPrefix begins every marker line; the version comes first, so that a later format can be
	// distinguished.
	MarkerPrefix = "oxide-ccm/"
	// MaxDescription is the longest description that Oxide stores, in characters.
	MaxDescription = 512
	// LegacyDescription is the whole description of floating IPs that the existing Oxide CCM makes.
	LegacyDescription = "Managed by oxide-cloud-controller-manager."
)

const (
	scopePattern = `scope=([A-Za-z0-9._-]{1,63})`
	namePattern  = `name=([A-Za-z0-9._/-]{1,253})`
)

var markerPattern = regexp.MustCompile(`^oxide-ccm/v1 ` + scopePattern + ` ` + namePattern +
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
	// Source is what was desired when the address was allocated, as Source.String returns it.
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
	line, ok := onlyLine(description, MarkerPrefix)
	if !ok {
		return Marker{}, false
	}
	fields := markerPattern.FindStringSubmatch(line)
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

// onlyLine returns the line of a description that begins with a prefix, if there is exactly one.
func onlyLine(description, prefix string) (line string, ok bool) {
	for next := range strings.Lines(description) {
		if !strings.HasPrefix(next, prefix) {
			continue
		}
		if ok {
			return "", false
		}
		line, ok = strings.TrimRight(next, "\r\n"), true
	}
	return line, ok
}

// WithMarker returns the description with the marker in place of the one it has, or behind the
// user's own text, which stays as it is. A released or reserved line is removed. It fails if the result
// would be longer than Oxide stores.
func WithMarker(description string, m Marker) (string, error) {
	line := m.String()
	if !markerPattern.MatchString(line) {
		return "", fmt.Errorf("the marker %.100q would not be understood again", line)
	}
	return withLine(description, line, "marker")
}

// withLine returns the description with a line in place of the first marker, released or reserved line
// that it has, or behind the user's own text. All others of those are removed.
func withLine(description, line, what string) (string, error) {
	kept := make([]string, 0, 2)
	placed := false
	for _, old := range strings.Split(description, "\n") {
		switch {
		case !isOurs(old):
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
	written := strings.Join(kept, "\n")
	if over := utf8.RuneCountInString(written) - MaxDescription; over > 0 {
		return "", fmt.Errorf("the description of the address leaves no room for the %s; remove %d "+
			"characters from it", what, over)
	}
	return written, nil
}

func isOurs(line string) bool {
	return strings.HasPrefix(line, MarkerPrefix) || strings.HasPrefix(line, releasedPrefix) ||
		strings.HasPrefix(line, reservedPrefix)
}

// WithoutMarker returns a description without its markers.
func WithoutMarker(description string) string {
	var kept []string
	for _, line := range strings.Split(description, "\n") {
		if !strings.HasPrefix(line, MarkerPrefix) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// BearsMarker reports whether a description has a marker, even one that cannot be believed.
func BearsMarker(description string) bool {
	if strings.HasPrefix(description, MarkerPrefix) {
		return true
	}
	return strings.Contains(description, "\n"+MarkerPrefix)
}
