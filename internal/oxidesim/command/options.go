// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package command

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// Options are the settings of oxide-sim.
type Options struct {
	Listen     []string
	Dead       []string
	Hang       []string
	TLS        bool
	TLSNames   []string
	TLSCAOut   string
	SeedFile   string
	Latency    time.Duration
	TimeScale  float64
	APIVersion string
	RequestLog string

	seed *oxidesim.Seed
}

// AddFlags binds the options to flags, with their defaults.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.StringArrayVar(&o.Listen, "listen", []string{"127.0.0.1:12220"},
		"loopback `address` to listen on; may be repeated, as the several Nexus of a rack")
	fs.StringArrayVar(&o.Dead, "listen-dead", nil,
		"`address` where connections are refused, as at a Nexus that is gone; may be repeated")
	fs.StringArrayVar(&o.Hang, "listen-hang", nil,
		"`address` where connections open but nothing answers; may be repeated")
	fs.BoolVar(&o.TLS, "tls", false, "serve HTTPS, with a certificate by a private CA made now")
	fs.StringArrayVar(&o.TLSNames, "tls-name", nil,
		"`name` that the certificate is good for, besides localhost and the addresses")
	fs.StringVar(&o.TLSCAOut, "tls-ca-out", "",
		"`file` that gets the CA's certificate, for clients to trust")
	fs.StringVar(&o.SeedFile, "seed", "",
		"YAML or JSON `file` that says what is on the rack (default: a small built-in one)")
	fs.DurationVar(&o.Latency, "latency", 0, "time added to every API request, such as 50ms")
	fs.Float64Var(&o.TimeScale, "time-scale", oxidesim.DefaultTimeScale,
		"`factor` for everything that takes time on a rack: 1 is real time")
	fs.StringVar(&o.APIVersion, "api-version", oxidesim.DefaultAPIVersion,
		"newest API `version` that the rack speaks, and so its release; an older rack refuses newer clients, "+
			"and "+oxidesim.Release20APIVersion+" has the faults of release 20")
	fs.StringVar(&o.RequestLog, "request-log", "",
		"`file` that gets one line per API request, - for standard error (default: none)")
}

// Complete reads what the options name.
func (o *Options) Complete() error {
	if o.SeedFile == "" {
		return nil
	}
	text, err := os.ReadFile(o.SeedFile)
	if err != nil {
		return fmt.Errorf("--seed: %w", err)
	}
	seed, err := oxidesim.ParseSeed(text)
	if err != nil {
		return fmt.Errorf("--seed: %s: %w", o.SeedFile, err)
	}
	o.seed = &seed
	return nil
}

// Validate reports every mistake in the options.
func (o *Options) Validate() error {
	var errs []error
	for flag, addrs := range map[string][]string{
		"--listen": o.Listen, "--listen-dead": o.Dead, "--listen-hang": o.Hang,
	} {
		for _, addr := range addrs {
			errs = append(errs, checkLoopback(flag, addr))
		}
	}
	if len(o.Listen) == 0 {
		errs = append(errs, errors.New("--listen: at least one address is needed"))
	}
	if o.Latency < 0 {
		errs = append(errs, fmt.Errorf("--latency %v: must not be negative", o.Latency))
	}
	if o.TimeScale <= 0 {
		errs = append(errs, fmt.Errorf("--time-scale %v: must be positive", o.TimeScale))
	}
	if !o.TLS && (o.TLSCAOut != "" || len(o.TLSNames) > 0) {
		errs = append(errs, errors.New("--tls-ca-out, --tls-name: only with --tls"))
	}
	return errors.Join(errs...)
}

// checkLoopback refuses addresses that others could reach: the rack's tokens are no secret.
func checkLoopback(flag, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s %q: must be HOST:PORT, such as 127.0.0.1:12220", flag, addr)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s %q: must be a loopback address, such as 127.0.0.1", flag, addr)
	}
	return nil
}

// openLog opens the request log; closing it is the caller's.
func (o *Options) openLog(stderr io.Writer) (io.Writer, func(), error) {
	switch o.RequestLog {
	case "":
		return nil, func() {}, nil
	case "-":
		return stderr, func() {}, nil
	}
	f, err := os.OpenFile(o.RequestLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("--request-log: %w", err)
	}
	return f, func() { _ = f.Close() }, nil
}
