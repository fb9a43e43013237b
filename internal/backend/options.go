// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/access"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing/otlp"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/uds"
)

// DefaultListen is the address that is served by default.
const DefaultListen = "unix:///run/oxide/backend/backend.sock"

// The addresses of the health endpoints. Two pairs of programs may be on one node, of which one
// only reads.
const (
	defaultHealthListen  = "127.0.0.1:10268"
	readOnlyHealthListen = "127.0.0.1:10368"
)

// The priorities of firewall rules in Oxide: of two rules the one with the smaller number holds.
const (
	defaultFirewallPriority = 1000
	lastFirewallPriority    = 65535
)

// Options are what flags and environment say. The environment variables OXIDE_HOST, OXIDE_TOKEN and
// OXIDE_PROJECT are those that other Oxide tools know; a flag wins over its variable.
type Options struct {
	Listen        string
	SharedListen  string
	TLSListen     string
	Certificates  access.Certificates
	Clients       []string
	Host          string
	TokenFile     string
	Project       string
	CAFile        string
	HealthListen  string
	MetricsListen string
	LogFormat     string
	LogLevel      string
	Channelz      bool
	ExitOnEOF     int
	// TokenFD is a descriptor that the token is read from, once; negative: none.
	TokenFD  int
	ReadOnly bool
	// ManageFirewall keeps rules in VPC firewalls for load balancers, FirewallPriority is theirs.
	ManageFirewall   bool
	FirewallPriority int
	// TimeScale multiplies what sessions of load balancers wait for.
	TimeScale float64

	// tracing says where spans are sent; nil: nowhere. tracingErr is what is wrong with that.
	tracing    *otlp.Config
	tracingErr error
	// token comes from the environment or a descriptor only: command lines can be read by every user.
	token oxide.Secret
	// tokenNote says which of two settings of the token is ignored; empty: none.
	tokenNote string
	// source says in words where the settings of Oxide come from; empty if nobody told.
	source string
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		Listen:           DefaultListen,
		HealthListen:     defaultHealthListen,
		LogFormat:        "text",
		LogLevel:         "info",
		FirewallPriority: defaultFirewallPriority,
		ExitOnEOF:        -1,
		TokenFD:          -1,
		TimeScale:        1,
	}
}

// AddFlags adds the flags.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Listen, "listen", o.Listen,
		"Address to serve gRPC on: unix:///PATH. The socket gets the mode 0600; its directory is "+
			"made with the mode 0700 if it is not there.")
	o.addAccessFlags(fs)
	o.addOxideFlags(fs)
	fs.StringVar(&o.HealthListen, "health-listen", o.HealthListen,
		"Address to serve /livez and /readyz on by HTTP. Empty: nowhere.")
	fs.StringVar(&o.MetricsListen, "metrics-listen", o.MetricsListen,
		"Address to serve /metrics on by HTTP, for example 127.0.0.1:10269. Empty: nowhere.")
	fs.StringVar(&o.LogFormat, "log-format", o.LogFormat, "Format of the log: text or json.")
	fs.StringVar(&o.LogLevel, "log-level", o.LogLevel,
		"What is logged: debug (every call), info (changes, and calls that failed), warn or error.")
	fs.BoolVar(&o.ReadOnly, "read-only", o.ReadOnly,
		"Change nothing in Oxide: calls that would are refused, dry runs are answered. To run beside "+
			"another controller manager on trial; /livez and /readyz are on port 10368 then, unless "+
			"--health-listen says otherwise.")
	o.addFirewallFlags(fs)
	fs.BoolVar(&o.Channelz, "channelz", o.Channelz,
		"Serve the gRPC service channelz, for debugging connections.")
	fs.IntVar(&o.ExitOnEOF, "exit-on-eof-fd", o.ExitOnEOF,
		"File descriptor of a pipe whose end ends the program. For a parent process.")
	_ = fs.MarkHidden("exit-on-eof-fd")
	fs.IntVar(&o.TokenFD, "oxide-token-fd", o.TokenFD,
		"Read the Oxide API token from this file descriptor, in place of OXIDE_TOKEN (used by ccm-shim).")
	_ = fs.MarkHidden("oxide-token-fd")
	fs.Float64Var(&o.TimeScale, "load-balancer-time-scale", o.TimeScale,
		"Factor for everything that is waited for before load balancers are changed. For tests.")
	_ = fs.MarkHidden("load-balancer-time-scale")
}

// addFirewallFlags adds the flags about firewalls.
func (o *Options) addFirewallFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.ManageFirewall, "manage-firewall", o.ManageFirewall,
		"Keep one rule in the VPC firewall for each load balancer and IP family, which lets in what that "+
			"serves. All other rules stay as they are. It takes the role collaborator on the project. To switch "+
			"it off again removes no rule: oxide-backend firewall remove-rules does.")
	fs.IntVar(&o.FirewallPriority, "firewall-priority", o.FirewallPriority,
		"Priority of the rules of --manage-firewall, 0 to 65535. A rule that denies wins over them if its "+
			"number is not greater.")
}

// addOxideFlags adds the flags that say which rack, as whom, and where in it.
func (o *Options) addOxideFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Host, "oxide-host", o.Host,
		"URL of the silo's Oxide API, for example https://my-silo.sys.rack.example.com. "+
			"Environment: OXIDE_HOST.")
	fs.StringVar(&o.TokenFile, "oxide-token-file", o.TokenFile,
		"File with the Oxide API token. It is read again every minute and after a rejection, so a "+
			"token can be replaced without a restart. Environment: OXIDE_TOKEN_FILE, or the token "+
			"itself in OXIDE_TOKEN.")
	fs.StringVar(&o.Project, "oxide-project", o.Project,
		"Name or id of the Oxide project that the instances are in. Environment: OXIDE_PROJECT.")
	fs.StringVar(&o.CAFile, "oxide-ca-file", o.CAFile,
		"PEM file with certificate authorities to trust for the Oxide API, besides the system's. It "+
			"is read again for connections after a minute, and when a certificate is not trusted. "+
			"Environment: OXIDE_CA_FILE.")
}

// Complete fills what the flags left open from the environment.
func (o *Options) Complete(getenv func(string) string) {
	if o.ReadOnly && o.HealthListen == defaultHealthListen {
		o.HealthListen = readOnlyHealthListen
	}
	o.Host = cmp.Or(o.Host, getenv("OXIDE_HOST"))
	o.Project = cmp.Or(o.Project, getenv("OXIDE_PROJECT"))
	o.CAFile = cmp.Or(o.CAFile, getenv("OXIDE_CA_FILE"))
	o.source = getenv("OXIDE_SETTINGS_FROM")
	o.tracing, o.tracingErr = otlp.FromEnvironment(getenv)
	o.token = oxide.NewSecret(cmp.Or(o.readToken(), getenv("OXIDE_TOKEN")))
	file := getenv("OXIDE_TOKEN_FILE")
	switch {
	case o.token.IsEmpty():
		o.TokenFile = cmp.Or(o.TokenFile, file)
	case o.TokenFile != "":
		o.tokenNote = "OXIDE_TOKEN is ignored, because --oxide-token-file is given: leave one of them out"
	case file != "":
		o.tokenNote = "the file in OXIDE_TOKEN_FILE is ignored, because OXIDE_TOKEN is set: leave one of " +
			"them out"
	}
}

// Config is a valid configuration.
type Config struct {
	Oxide oxide.Config
	// TokenNote says which of two settings of the token is ignored; empty: none.
	TokenNote  string
	SocketPath string
	// SharedSocketPath and TLSListen are further addresses of the API; empty: none.
	SharedSocketPath string
	TLSListen        string
	TLSCredentials   credentials.TransportCredentials
	// Clients are who may do what, beside the own user.
	Clients       access.Clients
	HealthListen  string
	MetricsListen string
	Channelz      bool
	// ManageFirewall keeps rules in VPC firewalls for load balancers, FirewallPriority is theirs.
	ManageFirewall   bool
	FirewallPriority uint16
	// TimeScale multiplies what sessions of load balancers wait for.
	TimeScale float64
	// Tracing says where spans are sent; nil: nowhere.
	Tracing *otlp.Config
	// Parent is a pipe whose end ends the program; nil if there is none.
	Parent *os.File
	Logger slog.Handler
}

// Validate checks everything that can be checked without asking Oxide, and reports all mistakes
// together as a *process.UsageError.
func (o *Options) Validate() (Config, error) {
	cfg := Config{
		HealthListen: o.HealthListen, MetricsListen: o.MetricsListen, Channelz: o.Channelz,
		TimeScale: o.TimeScale, TokenNote: o.tokenNote, ManageFirewall: o.ManageFirewall,
		Tracing: o.tracing,
	}
	var errs []error
	check := func(setting string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", setting, err))
		}
	}
	var err error
	cfg.SocketPath, err = uds.ParseAddress(o.Listen)
	check("--listen", err)
	errs = append(errs, o.checkAccess(&cfg)...)
	cfg.Oxide, err = o.oxideConfig()
	cfg.Oxide.ReadOnly = o.ReadOnly
	errs = append(errs, singly(err)...)
	errs = append(errs, singly(o.tracingErr)...)
	check("--health-listen", checkListen(o.HealthListen))
	check("--metrics-listen", checkListen(o.MetricsListen))
	if o.TimeScale <= 0 {
		errs = append(errs, fmt.Errorf("--load-balancer-time-scale: %v is no factor for a time to wait: "+
			"leave it out", o.TimeScale))
	}
	cfg.FirewallPriority, err = firewallPriority(o.FirewallPriority)
	check("--firewall-priority", err)
	level, err := parseLevel(o.LogLevel)
	check("--log-level", err)
	cfg.Logger, err = newLogHandler(os.Stderr, o.LogFormat, level)
	check("--log-format", err)
	if o.ExitOnEOF >= 0 {
		cfg.Parent = os.NewFile(uintptr(o.ExitOnEOF), "parent")
	}
	if len(errs) > 0 {
		return Config{}, &process.UsageError{Errs: errs}
	}
	return cfg, nil
}

func firewallPriority(number int) (uint16, error) {
	if number < 0 || number > lastFirewallPriority {
		return 0, fmt.Errorf("%d is no priority of a firewall rule: give a number from 0, the first, to %d",
			number, lastFirewallPriority)
	}
	return uint16(number), nil
}

func checkListen(address string) error {
	if address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%q is not of the form HOST:PORT", address)
	}
	return nil
}
