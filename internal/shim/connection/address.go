// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package connection

import (
	"fmt"
	"net/url"
	"strings"
)

// maxSocketPath is the longest path that a unix socket address holds on Linux: the field has 108
// bytes, the last of which ends the string.
const maxSocketPath = 107

// Address is where a backend listens: the absolute path of its unix socket.
type Address struct {
	path string
}

// ParseAddress reads an address as users write it: "unix:///run/oxide/backend.sock", or the
// absolute path alone. Its errors are one line, without the name of the setting.
func ParseAddress(s string) (Address, error) {
	path, isURL := strings.CutPrefix(s, "unix://")
	switch {
	case strings.ContainsAny(s, "\n\x00"):
		return Address{}, fmt.Errorf("%q holds a line break or a zero byte", s)
	case !isURL && strings.Contains(s, "://"), !isURL && strings.HasPrefix(s, "unix:"):
		return Address{}, fmt.Errorf("%q is not the address of a unix socket: "+
			"write unix:///absolute/path", s)
	case !strings.HasPrefix(path, "/"):
		return Address{}, fmt.Errorf("%q is not an absolute path: write unix:///absolute/path", s)
	case strings.HasSuffix(path, "/"):
		return Address{}, fmt.Errorf("%q names a directory: write the path of the socket in it", s)
	case len(path) > maxSocketPath:
		return Address{}, fmt.Errorf("%q is %d bytes long, and the path of a unix socket may have "+
			"%d: use a shorter one", s, len(path), maxSocketPath)
	}
	return Address{path: path}, nil
}

// Path is the path of the socket in the file system.
func (a Address) Path() string { return a.path }

// String is the address as a URL, the form that every program here accepts.
func (a Address) String() string { return "unix://" + a.path }

// target is the address in the syntax of gRPC, in which "%", "?" and "#" are special.
func (a Address) target() string {
	return (&url.URL{Scheme: "unix", Path: a.path}).String()
}
