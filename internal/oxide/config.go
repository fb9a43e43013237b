// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/google/uuid"
)

// Config says which rack, as whom, and where in it.
type Config struct {
	// Host is the base URL of the silo's API, as ParseHost returns it.
	Host *url.URL
	// Token gives the API token.
	Token *TokenSource
	// Project is the name or id of the project to work in.
	Project string
	// Authorities verify the API's certificate; nil means the system's roots.
	Authorities *Authorities
	// ReadOnly refuses every change, before Oxide is asked.
	ReadOnly bool
	// UserAgent is sent with every request.
	UserAgent string
	// Dial connects to Host; nil means by TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// ParseHost reads the address of an Oxide API. "https://" is assumed if the scheme is missing. Plain
// "http://" is accepted for loopback addresses only, since the token would cross the network
// readable.
func ParseHost(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		// The parser's own error repeats the text, which may hold credentials.
		return nil, errors.New("it is not a URL")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("its scheme is %q, not https", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("it names no host")
	case u.User != nil:
		return nil, errors.New("it holds a user name or password, which Oxide does not use")
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return nil, errors.New("it holds more than scheme, host and port")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, errors.New("it would send the token unencrypted; use https")
	}
	u.Path = ""
	return u, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

var namePattern = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ValidName reports whether Oxide accepts s as a resource's name: 1 to 63 characters, a lower-case
// letter first, then lower-case letters, digits and "-", the last not "-"; and nothing that parses
// as a UUID. Oxide answers any other name in a path with 400 rather than 404.
func ValidName(s string) bool {
	return namePattern.MatchString(s) && !ValidID(s)
}

// ValidID reports whether s is the id of a resource: a UUID, hyphenated or as 32 hex digits.
func ValidID(s string) bool {
	return (len(s) == 36 || len(s) == 32) && uuid.Validate(s) == nil
}

// fileError drops what an *os.PathError repeats: the caller names the file with its setting.
func fileError(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
