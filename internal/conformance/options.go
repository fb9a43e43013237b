// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"time"

	"github.com/spf13/pflag"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/uds"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/sanity"
)

// The formats of the output.
const (
	formatText  = "text"
	formatJSON  = "json"
	formatJUnit = "junit"
)

// Options are what the flags say.
type Options struct {
	Address   string
	Scope     string
	Instances []string
	FaultURL  string
	Run       string
	List      bool
	Output    string
	Timeout   time.Duration
	Settle    time.Duration
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		Scope: sanity.DefaultScope, Output: formatText, Timeout: sanity.DefaultTimeout,
		Settle: sanity.DefaultSettle,
	}
}

// AddFlags adds the flags.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Address, "address", o.Address,
		"Address of the backend: unix:///PATH. Its socket is open to its own user, so run this as that user.")
	fs.StringSliceVar(&o.Instances, "instances", o.Instances,
		"Names or ids of running instances of the backend's project that addresses may be attached to and "+
			"detached from; two for all cases. They must serve nobody. Without them those cases are skipped.")
	fs.StringVar(&o.Scope, "scope", o.Scope,
		"How the scopes of load balancers and the names of addresses begin that are made. What an earlier "+
			"run with the same has left behind is removed at the start.")
	fs.StringVar(&o.FaultURL, "fault-url", o.FaultURL,
		"URL of the simulated rack that the backend uses, for example http://127.0.0.1:12220, for cases in "+
			"which the rack fails. Without --instances two are added to it.")
	fs.StringVar(&o.Run, "run", o.Run, "Regular expression: only cases whose name it matches are run.")
	fs.BoolVar(&o.List, "list", o.List,
		"Print the cases, each with the sentences of the contract that it holds, and run none.")
	fs.StringVarP(&o.Output, "output", "o", o.Output,
		"Format of the output: text, with a line for each case, json or junit.")
	fs.DurationVar(&o.Timeout, "case-timeout", o.Timeout, "The longest that a case may take.")
	fs.DurationVar(&o.Settle, "settle", o.Settle,
		"The longest that the backend may take until something is as desired.")
}

// Validate checks the flags, and reports all that is wrong with them as a *process.UsageError.
func (o *Options) Validate() (sanity.Options, error) {
	options := sanity.Options{
		Scope: o.Scope, Instances: o.Instances, FaultURL: o.FaultURL, Timeout: o.Timeout, Settle: o.Settle,
	}
	var errs []error
	switch o.Output {
	case formatText, formatJSON, formatJUnit:
	default:
		errs = append(errs, fmt.Errorf("--output: %q is no format: give text, json or junit", o.Output))
	}
	if o.Run != "" {
		pattern, err := regexp.Compile(o.Run)
		if err != nil {
			errs = append(errs, fmt.Errorf("--run: %w", err))
		}
		options.Select = pattern
	}
	if !o.List {
		path, err := uds.ParseAddress(o.Address)
		if o.Address == "" {
			err = errors.New("it is not set; give the socket of the backend, for example unix:///run/oxide/" +
				"backend/backend.sock")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--address: %w", err))
		}
		options.Dial = func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	if len(errs) > 0 {
		return sanity.Options{}, &process.UsageError{Errs: errs}
	}
	return options, nil
}

// write writes a report in one of the formats that have no line for each case.
func write(report *sanity.Report, format string, out io.Writer) error {
	if format == formatJSON {
		return report.WriteJSON(out)
	}
	return report.WriteJUnit(out)
}
