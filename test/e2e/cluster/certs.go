// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// certLifetime outlasts every run, a kept one included.
const certLifetime = 30 * 24 * time.Hour

// authority signs all certificates of one cluster. Its key never leaves memory.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// keyPair is a certificate and its key, both as PEM.
type keyPair struct {
	cert []byte
	key  []byte
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := certTemplate(pkix.Name{CommonName: "oxide-ccm-test-ca"})
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key, pem: encode("CERTIFICATE", der)}, nil
}

// issue makes a certificate for a client and, if it has addresses or names, for a server.
func (a *authority) issue(subject pkix.Name, ips []net.IP, names []string) (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, err
	}
	template, err := certTemplate(subject)
	if err != nil {
		return keyPair{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(ips)+len(names) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	template.IPAddresses, template.DNSNames = ips, names
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return keyPair{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{cert: encode("CERTIFICATE", der), key: encode("PRIVATE KEY", keyDER)}, nil
}

func certTemplate(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLifetime),
	}, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// pki is the folder of the files that kube-apiserver reads.
type pki struct {
	dir string
	ca  *authority
}

// newPKI writes the certificates and keys of one control plane into dir. Its server is at address.
func newPKI(dir string, address netip.Addr) (*pki, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ca, err := newAuthority()
	if err != nil {
		return nil, fmt.Errorf("cannot make a certificate authority: %w", err)
	}
	p := &pki{dir: dir, ca: ca}
	if err := p.write("ca.crt", ca.pem); err != nil {
		return nil, err
	}
	server, err := ca.issue(pkix.Name{CommonName: "kube-apiserver"},
		[]net.IP{address.AsSlice(), net.IPv4(10, 96, 0, 1)},
		[]string{
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local",
		})
	if err != nil {
		return nil, fmt.Errorf("cannot make the server's certificate: %w", err)
	}
	proxy, err := ca.issue(pkix.Name{CommonName: "front-proxy-client"}, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot make the proxy's certificate: %w", err)
	}
	if err := p.writePair("apiserver", server); err != nil {
		return nil, err
	}
	if err := p.writePair("front-proxy-client", proxy); err != nil {
		return nil, err
	}
	toKubelets, err := ca.issue(pkix.Name{
		CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"},
	}, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot make the certificate for the kubelets: %w", err)
	}
	if err := p.writePair("kubelet-client", toKubelets); err != nil {
		return nil, err
	}
	return p, p.writeServiceAccountKey()
}

// writeServiceAccountKey makes the key that signs service-account tokens.
func (p *pki) writeServiceAccountKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := p.write("sa.key", encode("EC PRIVATE KEY", private)); err != nil {
		return err
	}
	return p.write("sa.pub", encode("PUBLIC KEY", public))
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

func (p *pki) write(name string, data []byte) error {
	return os.WriteFile(p.path(name), data, 0o600)
}

func (p *pki) writePair(name string, pair keyPair) error {
	if err := p.write(name+".crt", pair.cert); err != nil {
		return err
	}
	return p.write(name+".key", pair.key)
}
