// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ownership

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// releasedPrefix begins the line that says whose an address was. It is no MarkerPrefix: such an
// address belongs to a user.
const releasedPrefix = "oxide-ccm-released/"

var releasedPattern = regexp.MustCompile(
	`^oxide-ccm-released/v1 ` + scopePattern + ` ` + namePattern + `$`)

// errReleasedKey is not specific because a key never comes from a person.
var errReleasedKey = errors.New("the name of the load balancer cannot be written into the description")

// WithReleased returns the description with a line that says that the address was handed over by a
// load balancer, in place of its marker. Nothing takes the loss of that marker for an accident. It
// fails if the result would be longer than Oxide stores.
func WithReleased(description string, key Key) (string, error) {
	line := fmt.Sprintf("oxide-ccm-released/v1 scope=%s name=%s", key.Scope, key.Name)
	if !releasedPattern.MatchString(line) {
		return "", errReleasedKey
	}
	return withLine(description, line, "line that says that it was released")
}

// ReleasedFrom returns which load balancer has handed an address over. As with markers, a line that
// was edited, or two of them, say nothing.
func ReleasedFrom(description string) (Key, bool) {
	if !strings.Contains(description, releasedPrefix) {
		return Key{}, false
	}
	line, ok := onlyLine(description, releasedPrefix)
	if !ok {
		return Key{}, false
	}
	fields := releasedPattern.FindStringSubmatch(line)
	if fields == nil {
		return Key{}, false
	}
	return Key{Scope: fields[1], Name: fields[2]}, true
}
