// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/net/http/httpproxy"
)

// proxySetting is where a proxy is set.
const proxySetting = "HTTPS_PROXY"

// useProxy lets a transport use the proxy of the environment, and record its failures as such.
func useProxy(t *http.Transport) {
	environment := httpproxy.FromEnvironment()
	valid := validProxy(environment.HTTPSProxy)
	choose := environment.ProxyFunc()
	t.Proxy = func(req *http.Request) (*url.URL, error) {
		proxy, err := choose(req.URL)
		if err != nil || proxy != nil && !valid {
			// The parser's own error repeats the text, which may hold credentials.
			return nil, &proxyError{what: proxySetting + " is not the URL of a proxy",
				remedy: "correct " + proxySetting}
		}
		x, ok := req.Context().Value(exchangeKey{}).(*exchange)
		if ok && proxy != nil {
			x.proxy = proxy.Host
		}
		return proxy, nil
	}
	t.OnProxyConnectResponse = func(
		_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response,
	) error {
		return refusedByProxy(proxy.Host, answer.StatusCode)
	}
}

// validProxy reports whether text can be the URL of a proxy; the scheme may be missing.
func validProxy(text string) bool {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	proxy, err := url.Parse(text)
	return err == nil && proxy.Hostname() != "" &&
		slices.Contains([]string{"http", "https", "socks5", "socks5h"}, proxy.Scheme)
}

// proxyError is a failure of the proxy, or of its setting, in words of our own.
type proxyError struct{ what, remedy string }

func (e *proxyError) Error() string { return e.what }

// withoutProxy is the remedy where the proxy need not be used.
const withoutProxy = "or name the API's host in NO_PROXY"

// refusedByProxy returns an error for an answer to CONNECT that opens no way to the API.
func refusedByProxy(proxy string, status int) error {
	what := fmt.Sprintf("the proxy %s in %s ", proxy, proxySetting)
	switch status {
	case http.StatusOK:
		return nil
	case http.StatusProxyAuthRequired:
		return &proxyError{what + "wants a user name and password, or other ones (HTTP 407)",
			"put them into " + proxySetting + ", " + withoutProxy}
	case http.StatusForbidden:
		return &proxyError{what + "does not let this machine reach the API (HTTP 403)",
			"have the proxy allow the host in --oxide-host or OXIDE_HOST, " + withoutProxy}
	}
	return &proxyError{what + fmt.Sprintf("cannot reach the API (HTTP %d)", status),
		seeProxy}
}

// throughProxy adds the proxy to a failure that may be its own, or of what is behind it.
func throughProxy(detail, remedy, proxy string) (string, string) {
	if proxy == "" {
		return detail, remedy
	}
	return fmt.Sprintf("%s (through the proxy %s in %s)", detail, proxy, proxySetting),
		cmp.Or(remedy, seeProxy)
}

// seeProxy is the remedy where the proxy, or the way from it to the API, may be at fault.
const seeProxy = "see the proxy's log, and that the host in --oxide-host or OXIDE_HOST is right"

// proxyDetail says why the proxy failed, and the remedy; false if the failure is not the proxy's.
func proxyDetail(err error, proxy string) (detail, remedy string, ok bool) {
	if e, is := errors.AsType[*proxyError](err); is {
		return e.what, e.remedy, true
	}
	dial, is := errors.AsType[*net.OpError](err)
	if !is || dial.Op != "proxyconnect" {
		return "", "", false
	}
	name := fmt.Sprintf("the proxy %s in %s ", proxy, proxySetting)
	remedy = "correct " + proxySetting + ", " + withoutProxy
	if dns, is := errors.AsType[*net.DNSError](dial.Err); is {
		return name + "cannot be reached: the host name " + dns.Name + " does not resolve", remedy, true
	}
	switch {
	case errors.Is(dial.Err, syscall.ECONNREFUSED):
		return name + "is not there: nothing listens at its address (connection refused)", remedy, true
	case errors.Is(dial.Err, context.DeadlineExceeded), errors.Is(dial.Err, syscall.ETIMEDOUT):
		return name + "does not answer", remedy, true
	case errors.Is(dial.Err, io.EOF):
		return name + "closed the connection", remedy, true
	}
	return name + "cannot be reached", remedy, true
}
