// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// maxResponse bounds the size of an answer; a list of 10,000 instances is far smaller.
const maxResponse = 64 << 20

// exchange is what the transport saw of one call. It travels in the request's context, because
// oxide.go turns the causes of failures into text.
type exchange struct {
	operation string
	// apiVersion is as in operation.
	apiVersion string
	token      Secret
	status     int
	requestID  string
	mediaType  string
	tls        *tls.ConnectionState
	// plain: the request was sent without TLS.
	plain bool
	// proxy is the host of the proxy that the request was to go through; empty: through none.
	proxy string
	// err is why there was no answer, or why its body broke off; nil if all of it came.
	err error
	// resent is how often the request was sent again, with another token.
	resent int
}

// foreign returns an error if the answer has a content that is not JSON, as all of Oxide's is: then
// something in between has answered.
func (x *exchange) foreign() error {
	if x.status == http.StatusNoContent || x.mediaType == "application/json" {
		return nil
	}
	return fmt.Errorf("its content is %q, not JSON", x.mediaType)
}

// clean makes foreign text fit for an error: short, on one line, and without the token, should
// somebody repeat it.
func (x *exchange) clean(s string) string {
	if !x.token.IsEmpty() {
		s = strings.ReplaceAll(s, x.token.Reveal(), redacted)
	}
	return oneLine(s)
}

type exchangeKey struct{}

func withExchange(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

// transport adds the token, times each request, and records the exchange.
type transport struct {
	next    http.RoundTripper
	token   *TokenSource
	metrics *metrics
}

// newBaseTransport returns the transport below. There is no limit on waiting for the answer's header: an
// attach may take a minute, and every call has a context with a deadline.
func newBaseTransport(cfg Config) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = cfg.Dial
	if t.DialContext == nil {
		t.DialContext = newDialer().DialContext
	}
	t.MaxIdleConnsPerHost = 16
	// Without pings an HTTP/2 connection to an API server that died is used until TCP gives up.
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second}
	t.TLSClientConfig = cfg.Authorities.tlsConfig(cfg.Host.Hostname())
	useProxy(t)
	return t
}

// RoundTrip implements http.RoundTripper. A request that Oxide rejects with 401 is sent once more if
// the token has changed meanwhile: Oxide did nothing for the rejected one, so this is safe for
// mutations, too.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	token := t.token.Token()
	resp, err := t.send(req, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !t.token.Rejected(token) {
		return resp, err
	}
	again := req.Clone(req.Context())
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return resp, nil //nolint:nilerr // the 401 is the answer then
		}
	}
	_ = resp.Body.Close()
	if x, ok := req.Context().Value(exchangeKey{}).(*exchange); ok {
		x.resent++
	}
	return t.send(again, t.token.Token())
}

func (t *transport) send(req *http.Request, token Secret) (*http.Response, error) {
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		x = &exchange{operation: "other"}
	}
	*x = exchange{
		operation: x.operation, apiVersion: x.apiVersion, token: token,
		plain: req.URL.Scheme == "http", resent: x.resent,
	}
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	if x.apiVersion != "" {
		req.Header.Set("API-Version", x.apiVersion)
	}

	start := time.Now()
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		x.err = err
		t.metrics.observe(x.operation, 0, time.Since(start))
		return nil, err
	}
	x.status, x.tls = resp.StatusCode, resp.TLS
	if id := resp.Header.Get("X-Request-Id"); ValidID(id) {
		x.requestID = id
	}
	x.mediaType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	t.metrics.observe(x.operation, resp.StatusCode, time.Since(start))
	resp.Body = &recordedBody{Reader: io.LimitReader(resp.Body, maxResponse), body: resp.Body, x: x}
	return resp, nil
}

// recordedBody tells an answer that broke off from one that is not JSON.
type recordedBody struct {
	io.Reader
	body io.Closer
	x    *exchange
}

func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.x.err = err
	}
	return n, err
}

func (b *recordedBody) Close() error { return b.body.Close() }

// connectionDetail says in a few words why there was no answer, and the remedy where it is known.
func connectionDetail(err error, clean func(string) string) (detail, remedy string) {
	var (
		unknownCA *x509.UnknownAuthorityError
		unknown   x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		dnsErr    *net.DNSError
		record    tls.RecordHeaderError
		untrusted *untrustedError
		stream    http2.StreamError
		errno     syscall.Errno
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return validity(invalid.Cert, time.Now())
	case errors.Is(err, context.DeadlineExceeded):
		return "it did not answer in time", ""
	case (errors.As(err, &unknownCA) || errors.As(err, &unknown)) && errors.As(err, &untrusted):
		return "its certificate is signed by an authority that is not in " + untrusted.file,
			"put the authority's certificate into that file, which is read again without a restart"
	case errors.As(err, &unknownCA), errors.As(err, &unknown):
		return "its certificate is signed by an unknown authority",
			"give the authority's certificate with --oxide-ca-file or OXIDE_CA_FILE"
	case errors.As(err, &hostname):
		return "its certificate is for another host name",
			"use the silo's own host name in --oxide-host or OXIDE_HOST"
	case errors.As(err, &invalid):
		return clean(invalid.Error()), ""
	case errors.As(err, &dnsErr):
		return "the host name " + dnsErr.Name + " in --oxide-host or OXIDE_HOST does not resolve", ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens at the address in --oxide-host or OXIDE_HOST (connection refused)", ""
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was closed before all of its answer had come", ""
	case errors.As(err, &record):
		return "it does not speak TLS at the port in --oxide-host or OXIDE_HOST", ""
	case errors.As(err, &stream):
		// Not the number of the stream: an error's text must not change each time.
		return fmt.Sprintf("it broke the request off (HTTP/2 %s)", stream.Code), ""
	case errors.As(err, &errno):
		return "the network says: " + errno.Error(), ""
	}
	return clean(err.Error()), "" // which may repeat an answer that could not be read
}

// validity says when a certificate is valid, and what this machine's clock says. That is given to the
// hour: an error's text must not change each time.
func validity(certificate *x509.Certificate, now time.Time) (detail, remedy string) {
	const form = "2006-01-02 15:04 MST"
	clock := now.UTC().Format("2006-01-02 15h MST")
	if now.Before(certificate.NotBefore) {
		return fmt.Sprintf("its certificate is not valid before %s, and this machine's clock says %s",
				certificate.NotBefore.UTC().Format(form), clock),
			"set this machine's clock, or have the rack's operator correct the certificate"
	}
	return fmt.Sprintf("its certificate expired at %s, and this machine's clock says %s",
			certificate.NotAfter.UTC().Format(form), clock),
		"have the rack's operator renew the certificate, or set this machine's clock"
}
