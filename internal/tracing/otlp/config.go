// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package otlp

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// What the standard calls the settings that are read here. The exporter reads more of them by
// itself.
const (
	endpointVariable       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	tracesEndpointVariable = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	samplerVariable        = "OTEL_TRACES_SAMPLER"
	samplerArgVariable     = "OTEL_TRACES_SAMPLER_ARG"
)

// defaultPort is OTLP's for gRPC.
const defaultPort = "4317"

// Config says where spans are sent.
type Config struct {
	// endpoint is the collector's URL, setting the variable that names it.
	endpoint, setting string
}

// Setting is the variable that names the endpoint.
func (c *Config) Setting() string { return c.setting }

// Endpoint is the collector's URL.
func (c *Config) Endpoint() string { return c.endpoint }

// FromEnvironment returns what the environment says; nil: nothing is to be traced. It checks what
// the exporter would else ignore, or say without its place. Its errors are joined, one line each
// with the name of the variable, and hold no value that may be a secret.
func FromEnvironment(getenv func(string) string) (*Config, error) {
	get := func(name string) string { return strings.TrimSpace(getenv(name)) }
	setting := tracesEndpointVariable
	if get(setting) == "" {
		setting = endpointVariable
	}
	if get(setting) == "" || strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") ||
		strings.EqualFold(get("OTEL_TRACES_EXPORTER"), "none") {
		return nil, nil
	}
	var errs []error
	refuse := func(setting string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", setting, err))
		}
	}
	endpoint, err := parseEndpoint(get(setting))
	refuse(setting, err)
	// What is for traces alone wins over what is for all signals, as everywhere in the standard.
	ofTraces := func(name string) (setting, value string) {
		traces := "OTEL_EXPORTER_OTLP_TRACES_" + name
		if value = get(traces); value != "" {
			return traces, value
		}
		return "OTEL_EXPORTER_OTLP_" + name, get("OTEL_EXPORTER_OTLP_" + name)
	}
	check := func(name string, wrong func(value string) error) {
		if setting, value := ofTraces(name); value != "" {
			refuse(setting, wrong(value))
		}
	}
	check("PROTOCOL", checkProtocol)
	check("HEADERS", checkHeaders)
	check("TIMEOUT", checkMilliseconds)
	check("CERTIFICATE", checkAuthorities)
	certificateSetting, certificate := ofTraces("CLIENT_CERTIFICATE")
	keySetting, key := ofTraces("CLIENT_KEY")
	refuse(certificateSetting, checkKeyPair(certificate, key, keySetting))
	refuse(samplerVariable, checkSampler(get(samplerVariable)))
	if strings.Contains(get(samplerVariable), "ratio") {
		refuse(samplerArgVariable, checkRatio(get(samplerArgVariable)))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &Config{endpoint: endpoint, setting: setting}, nil
}

// parseEndpoint returns a URL with scheme, host and port.
func parseEndpoint(text string) (string, error) {
	const form = "give a URL such as http://127.0.0.1:4317, or https:// for TLS"
	u, err := url.Parse(text)
	switch {
	case err != nil:
		// The parser's own error repeats the text, which may hold credentials.
		return "", errors.New("it is not a URL: " + form)
	case u.Scheme != "http" && u.Scheme != "https" && !strings.Contains(text, "://"):
		return "", errors.New("it has no scheme: " + form)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("its scheme is %q: %s", u.Scheme, form)
	case u.User != nil:
		return "", errors.New("it holds a user name or password: give credentials of the collector by " +
			"OTEL_EXPORTER_OTLP_HEADERS")
	case u.Hostname() == "":
		return "", errors.New("it names no host: " + form)
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return "", errors.New("it holds more than scheme, host and port, which is for OTLP over HTTP: spans " +
			"are sent by gRPC, so leave the rest out")
	}
	port := cmp.Or(u.Port(), defaultPort)
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q is no port: %s", port, form)
	}
	return u.Scheme + "://" + net.JoinHostPort(u.Hostname(), port), nil
}

func checkProtocol(protocol string) error {
	if protocol == "grpc" {
		return nil
	}
	return fmt.Errorf("spans are sent by gRPC, not by %q: leave it out, and name the collector's port for "+
		"gRPC in the endpoint", protocol)
}

// checkHeaders quotes nothing: headers are where credentials are.
func checkHeaders(headers string) error {
	for pair := range strings.SplitSeq(headers, ",") {
		name, value, found := strings.Cut(pair, "=")
		if _, err := url.PathUnescape(value); !found || err != nil || strings.TrimSpace(name) == "" {
			return errors.New("it is not of the form NAME=VALUE,NAME=VALUE with values in percent-encoding")
		}
	}
	return nil
}

func checkMilliseconds(text string) error {
	if n, err := strconv.Atoi(text); err != nil || n <= 0 {
		return fmt.Errorf("%q is no number of milliseconds", text)
	}
	return nil
}

func checkAuthorities(file string) error {
	text, err := os.ReadFile(file)
	switch {
	case err != nil:
		return fmt.Errorf("the file %s cannot be read: %w", file, cause(err))
	case !x509.NewCertPool().AppendCertsFromPEM(text):
		return fmt.Errorf("the file %s holds no certificate in PEM", file)
	}
	return nil
}

func checkKeyPair(certificate, key, keySetting string) error {
	switch {
	case certificate == "" && key == "":
		return nil
	case certificate == "" || key == "":
		return fmt.Errorf("it and %s are given together, or not at all", keySetting)
	}
	if _, err := tls.LoadX509KeyPair(certificate, key); err != nil {
		return fmt.Errorf("it and %s are no certificate and its key in PEM: %w", keySetting, cause(err))
	}
	return nil
}

func checkSampler(sampler string) error {
	switch strings.ToLower(sampler) {
	case "", "always_on", "always_off", "traceidratio",
		"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio":
		return nil
	}
	return fmt.Errorf("%q is no sampler: give always_on, always_off, traceidratio, or one of these after "+
		"parentbased_", sampler)
}

func checkRatio(text string) error {
	if text == "" {
		return nil
	}
	if ratio, err := strconv.ParseFloat(text, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
		return fmt.Errorf("%q is no ratio: give a number from 0 to 1", text)
	}
	return nil
}

// cause is what is wrong with a file, without repeating its name.
func cause(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
