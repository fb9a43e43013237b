// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// tokenMaxAge is how long a token read from a file is used before the file is read again.
const tokenMaxAge = time.Minute

// TokenSource gives the API token: a fixed one, or the content of a file, which is read again every
// minute and whenever Oxide rejected the token, so that a rotated token is used without a restart.
// It is safe for concurrent use.
type TokenSource struct {
	file string
	now  func() time.Time

	mu     sync.Mutex
	token  Secret
	readAt time.Time
}

// Format implements fmt.Formatter, because fmt prints unexported fields as they are and asks none
// of their methods.
func (s *TokenSource) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// StaticToken returns a source that always gives the same token.
func StaticToken(token string) (*TokenSource, error) {
	secret, err := parseToken(token)
	if err != nil {
		return nil, err
	}
	return &TokenSource{token: secret}, nil
}

// TokenFile returns a source that reads the token from a file. White space around it is ignored. It
// fails if the file cannot be read now; later failures keep the token that was read last.
func TokenFile(file string) (*TokenSource, error) {
	s := &TokenSource{file: file, now: time.Now}
	if err := s.read(); err != nil {
		return nil, err
	}
	return s, nil
}

// Token returns the token to use now.
func (s *TokenSource) Token() Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != "" && s.now().Sub(s.readAt) >= tokenMaxAge {
		_ = s.read()
	}
	return s.token
}

// Rejected tells the source that Oxide rejected a token. It reports whether there is a different
// one to try.
func (s *TokenSource) Rejected(token Secret) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != "" && s.token.Equal(token) {
		_ = s.read()
	}
	return !s.token.Equal(token)
}

// read reads the file. A file that cannot be read at this moment, because it is being replaced, is
// no reason to forget a token that may still be good, so the old one is kept then.
func (s *TokenSource) read() error {
	content, err := os.ReadFile(s.file)
	if err != nil {
		return fileError(err)
	}
	token, err := parseToken(string(content))
	if err != nil {
		return err
	}
	s.token, s.readAt = token, s.now()
	return nil
}

func parseToken(s string) (Secret, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Secret{}, errors.New("it is empty")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Secret{}, errors.New("it holds more than one token, or characters that no token has")
	}
	return NewSecret(s), nil
}
