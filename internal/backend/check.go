// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	version "github.com/oxidecomputer/oxide-cloud-controller-manager"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/preflight"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
)

// errCheckFailed ends a preflight that found something wrong; the report says what.
var errCheckFailed = errors.New("a check failed")

// checkOptions are the settings of the preflight.
type checkOptions struct {
	oxide   *Options
	ports   []string
	output  string
	timeout time.Duration
}

func (o *checkOptions) addFlags(fs *pflag.FlagSet) {
	o.oxide.addOxideFlags(fs)
	fs.StringSliceVar(&o.ports, "port", nil,
		"A port that Services will use, for example 80, 443/tcp or 53/udp: the VPC firewall is "+
			"checked to let it through. Repeatable.")
	o.oxide.addFirewallFlags(fs)
	fs.StringVar(&o.output, "output", "table", "Form of the report: table or json.")
	fs.DurationVar(&o.timeout, "timeout", 30*time.Second, "How long all checks together may take.")
}

// checkConfig is a valid configuration of the preflight.
type checkConfig struct {
	oxide     oxide.Config
	tokenNote string
	ports     []firewall.Port
	// manageFirewall: rules are to be kept in firewalls, with firewallPriority.
	manageFirewall   bool
	firewallPriority uint16
}

func (o *checkOptions) validate() (checkConfig, error) {
	var cfg checkConfig
	var err error
	cfg.oxide, err = o.oxide.oxideConfig()
	cfg.tokenNote = o.oxide.tokenNote
	errs := singly(err)
	for _, text := range o.ports {
		port, err := parsePort(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--port: %w", err))
		}
		cfg.ports = append(cfg.ports, port)
	}
	cfg.manageFirewall = o.oxide.ManageFirewall
	if cfg.firewallPriority, err = firewallPriority(o.oxide.FirewallPriority); err != nil {
		errs = append(errs, fmt.Errorf("--firewall-priority: %w", err))
	}
	if o.output != "table" && o.output != "json" {
		errs = append(errs, fmt.Errorf("--output: %q is neither table nor json", o.output))
	}
	if o.timeout <= 0 {
		errs = append(errs, fmt.Errorf("--timeout: %s is no time; give a duration such as 30s",
			o.timeout))
	}
	if len(errs) > 0 {
		return checkConfig{}, &process.UsageError{Errs: errs}
	}
	return cfg, nil
}

// parsePort reads NUMBER or NUMBER/PROTOCOL.
func parsePort(text string) (firewall.Port, error) {
	number, protocol, given := strings.Cut(text, "/")
	if !given {
		protocol = "tcp"
	}
	port := firewall.Port{Protocol: firewall.Protocol(strings.ToUpper(protocol))}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return port, fmt.Errorf("%q is no port; write it as 80, 443/tcp or 53/udp", text)
	}
	port.Number = int(n)
	if port.Protocol != firewall.TCP && port.Protocol != firewall.UDP {
		return port, fmt.Errorf("%q: firewalls have ports for tcp and udp only", text)
	}
	return port, nil
}

func newCheckCommand() *cobra.Command {
	opts := &checkOptions{oxide: NewOptions()}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check that Oxide is set up for the cloud controller manager, changing nothing",
		Long: "check asks Oxide, by reads alone, whether everything is in place: the API within reach, " +
			"a valid\ntoken, the project, a role, pools of addresses and, for ports that you name, the " +
			"firewall.\nIt reports what is wrong together with the remedy.\n\n" +
			"Exit codes: 0 all is well, or works with warnings; 1 a check failed; 2 the command is wrong.",
		Example: "  oxide-backend check --port 80/tcp --port 443/tcp",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.oxide.Complete(os.Getenv)
			cfg, err := opts.validate()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), opts.timeout)
			defer cancel()
			return check(ctx, cfg, opts.output, cmd.OutOrStdout())
		},
	}
	opts.addFlags(cmd.Flags())
	return cmd
}

// check makes the preflight and prints its report.
func check(ctx context.Context, cfg checkConfig, output string, stdout io.Writer) error {
	client, err := oxide.New(cfg.oxide, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	defer client.Close()
	report := preflight.Run(ctx, client, preflight.Options{
		Ports: cfg.ports, TokenNote: cfg.tokenNote, Now: time.Now(),
		ManageFirewall: cfg.manageFirewall, FirewallPriority: int(cfg.firewallPriority),
	})
	printReport := printTable
	if output == "json" {
		printReport = printJSON
	}
	if err := printReport(stdout, cfg, report); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	if report.Result() == preflight.Failed {
		return errCheckFailed
	}
	return nil
}

func printTable(stdout io.Writer, cfg checkConfig, report preflight.Report) error {
	fmt.Fprintf(stdout, "oxide-backend %s checks %s, project %s\n\n",
		version.String(), cfg.oxide.Host, cfg.oxide.Project)
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CHECK\tRESULT\tWHAT WAS SEEN")
	for _, check := range oneRowPerCause(report.Checks) {
		fmt.Fprintf(table, "%s\t%s\t%s\n", check.Name, check.Result, check.Detail)
		if check.Remedy != "" {
			fmt.Fprintf(table, "\t\tremedy: %s\n", check.Remedy)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stdout, "\nresult: %s\n", report.Result())
	return err
}

// oneRowPerCause makes one row of checks that follow each other and ended in the same way.
func oneRowPerCause(checks []preflight.Check) []preflight.Check {
	var rows []preflight.Check
	for begin := 0; begin < len(checks); {
		row, names := checks[begin], []string{checks[begin].Name}
		end := begin + 1
		for end < len(checks) && checks[end].Result == row.Result && checks[end].Detail == row.Detail &&
			checks[end].Remedy == row.Remedy {
			names = append(names, checks[end].Name)
			end++
		}
		if len(names) > 1 {
			row.Name = fmt.Sprintf("%d checks", len(names))
			row.Detail = strings.Join(names, ", ") + ": " + row.Detail
		}
		rows = append(rows, row)
		begin = end
	}
	return rows
}

func printJSON(stdout io.Writer, cfg checkConfig, report preflight.Report) error {
	encoder := json.NewEncoder(stdout)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(struct {
		Version string            `json:"version"`
		Host    string            `json:"host"`
		Project string            `json:"project"`
		Result  preflight.Result  `json:"result"`
		Checks  []preflight.Check `json:"checks"`
	}{
		version.String(), cfg.oxide.Host.String(), cfg.oxide.Project, report.Result(), report.Checks,
	})
}
