// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// caMaxAge is how long a CA file is used before it is read again for a new connection.
const caMaxAge = time.Minute

// Authorities verify the API's certificate: the system's root certificates together with those of a
// PEM file. The file is read again for a new connection when it was read more than a minute ago, and
// at once when a certificate is not trusted, so that a changed file is used without a restart.
// Connections that exist live on. It is safe for concurrent use.
type Authorities struct {
	file string
	now  func() time.Time

	mu     sync.Mutex
	pem    []byte
	pool   *x509.CertPool
	readAt time.Time
}

// CAFile returns authorities from a file. It fails if the file cannot be read now or holds no
// certificate; later failures keep what was read last.
func CAFile(file string) (*Authorities, error) {
	a := &Authorities{file: file, now: time.Now}
	if _, err := a.read(); err != nil {
		return nil, err
	}
	return a, nil
}

// read reads the file, and reports whether something else is in it than before.
func (a *Authorities) read() (changed bool, err error) {
	text, err := os.ReadFile(a.file)
	if err != nil {
		return false, fileError(err)
	}
	if a.pool != nil && bytes.Equal(text, a.pem) {
		a.readAt = a.now()
		return false, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return false, errors.New("it holds no PEM certificate")
	}
	a.pem, a.pool, a.readAt = text, pool, a.now()
	return true, nil
}

// roots returns the certificates to trust now; afresh: read again, however young they are.
func (a *Authorities) roots(afresh bool) (pool *x509.CertPool, changed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if afresh || a.now().Sub(a.readAt) >= caMaxAge {
		changed, _ = a.read()
	}
	return a.pool, changed
}

// verify is what crypto/tls does by itself, but with the authorities of this moment. ServerName is
// empty for an IP address: then the certificate must be for the host that is called.
func (a *Authorities) verify(state tls.ConnectionState, host string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the API has no certificate")
	}
	options := x509.VerifyOptions{
		DNSName: state.ServerName, CurrentTime: a.now(), Intermediates: x509.NewCertPool(),
	}
	if options.DNSName == "" {
		options.DNSName = host
	}
	for _, intermediate := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(intermediate)
	}
	check := func(afresh bool) (changed bool, err error) {
		options.Roots, changed = a.roots(afresh)
		_, err = state.PeerCertificates[0].Verify(options)
		return changed, err
	}
	_, err := check(false)
	if err != nil {
		if changed, again := check(true); changed {
			err = again
		}
	}
	if err != nil {
		return &untrustedError{file: a.file, err: err}
	}
	return nil
}

// untrustedError is why a certificate is not trusted although a CA file is given.
type untrustedError struct {
	file string
	err  error
}

func (e *untrustedError) Error() string { return fmt.Sprintf("by %s: %v", e.file, e.err) }
func (e *untrustedError) Unwrap() error { return e.err }

// tlsConfig verifies the certificate of a host, by the system's roots if there are no authorities.
func (a *Authorities) tlsConfig(host string) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if a != nil {
		// VerifyConnection takes its place, with authorities that can change.
		config.InsecureSkipVerify = true
		config.VerifyConnection = func(state tls.ConnectionState) error { return a.verify(state, host) }
	}
	return config
}
