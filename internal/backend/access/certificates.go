// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package access

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// refreshInterval is how old the certificates that a connection is served with may be.
const refreshInterval = time.Minute

// Certificates are the files of the TLS listener. They are read again for connections after a
// minute, so that they can be replaced without a restart; where one that was replaced cannot be
// used, what was there before serves on.
type Certificates struct {
	// CertFile and KeyFile are the certificate of the backend, with its chain, and the key.
	CertFile, KeyFile string

	// ClientCAFile has the authorities that sign the certificates of clients.
	ClientCAFile string
}

// Credentials returns the credentials of a TCP listener. Its error names files that cannot be used, each
// by its flag.
func (c Certificates) Credentials() (credentials.TransportCredentials, error) {
	var errs []error
	for _, file := range []struct{ flag, path string }{
		{"--tls-cert-file", c.CertFile}, {"--tls-private-key-file", c.KeyFile},
		{"--client-ca-file", c.ClientCAFile},
	} {
		if file.path == "" {
			errs = append(errs, fmt.Errorf("%s: --tls-listen takes a certificate, its key and the authority "+
				"of the clients: give the PEM file", file.flag))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	loaded := &loadedCertificates{files: c}
	if err := loaded.load(time.Now()); err != nil {
		return nil, err
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return loaded.current(time.Now()), nil
		},
	}), nil
}

// loadedCertificates are the certificates as they were last read.
type loadedCertificates struct {
	files Certificates

	mu     sync.Mutex
	config *tls.Config
	read   time.Time
}

// current returns how connections are served now.
func (l *loadedCertificates) current(now time.Time) *tls.Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.read) < refreshInterval {
		return l.config
	}
	if err := l.load(now); err != nil {
		slog.Error("the certificates cannot be read again; those read before are used on", "error", err)
		l.read = now
	}
	return l.config
}

func (l *loadedCertificates) load(now time.Time) error {
	certificate, err := tls.LoadX509KeyPair(l.files.CertFile, l.files.KeyFile)
	if err != nil {
		return fmt.Errorf("--tls-cert-file, --tls-private-key-file: %w", err)
	}
	pem, err := os.ReadFile(l.files.ClientCAFile)
	if err != nil {
		return fmt.Errorf("--client-ca-file: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return fmt.Errorf("--client-ca-file: %s has no certificate in PEM form", l.files.ClientCAFile)
	}
	l.read = now
	l.config = &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate},
		ClientCAs: authorities, ClientAuth: tls.RequireAndVerifyClientCert,
	}
	return nil
}
