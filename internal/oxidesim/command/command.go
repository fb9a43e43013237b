// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	version "github.com/oxidecomputer/oxide-cloud-controller-manager"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
)

// errUsage marks mistakes in the options, for the exit code.
var errUsage = errors.New("bad options")

// Main runs the command line and gives the exit code: 0 after an orderly end, 1 after a
// failure, 2 for mistakes in the options, which are all reported, one line each.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := newCommand()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		text := strings.TrimSuffix(err.Error(), "\n"+errUsage.Error())
		for line := range strings.SplitSeq(text, "\n") {
			fmt.Fprintln(stderr, "oxide-sim:", line)
		}
		return 2
	}
	fmt.Fprintln(stderr, "oxide-sim:", err)
	return 1
}

func newCommand() *cobra.Command {
	var o Options
	cmd := &cobra.Command{
		Use:   "oxide-sim",
		Short: "A simulated Oxide rack",
		Long: `A simulated Oxide rack, in memory: the HTTP API that the Oxide CLI, Terraform and other
clients speak, with stories to play and faults to inject below ` + oxidesim.AdminPrefix + `.
It starts with what --seed says, or with the silo and project "demo". Point clients at it by

  export OXIDE_HOST=http://127.0.0.1:12220
  export OXIDE_TOKEN=` + oxidesim.DefaultToken + `

docs/guides/simulator.md says more.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errors.Join(fmt.Errorf("unexpected argument %q", args[0]), errUsage)
			}
			return nil
		},
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(o.Complete(), o.Validate()); err != nil {
				return errors.Join(err, errUsage)
			}
			return o.Run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return errors.Join(err, errUsage)
	})
	o.AddFlags(cmd.Flags())
	cmd.SetVersionTemplate(process.VersionTemplate)
	process.AddCommands(cmd)
	return cmd
}

// Run serves the rack until the context ends.
func (o *Options) Run(ctx context.Context, stdout, stderr io.Writer) error {
	log, closeLog, err := o.openLog(stderr)
	if err != nil {
		return err
	}
	defer closeLog()
	sim, err := oxidesim.New(oxidesim.Config{
		Seed: o.seed, TimeScale: o.TimeScale, Latency: o.Latency, APIVersion: o.APIVersion,
		RequestLog: log,
	})
	if err != nil {
		return errors.Join(err, errUsage)
	}
	srv, err := sim.Serve(oxidesim.ServeOptions{
		Listen: o.Listen, Dead: o.Dead, Hang: o.Hang, TLS: o.TLS, TLSNames: o.TLSNames,
	})
	if err != nil {
		sim.Close()
		return err
	}
	defer srv.Close()
	if o.TLSCAOut != "" {
		if err := os.WriteFile(o.TLSCAOut, srv.CAPEM, 0o644); err != nil {
			return fmt.Errorf("--tls-ca-out: %w", err)
		}
	}
	for _, url := range srv.URLs {
		fmt.Fprintln(stdout, "oxide-sim: listening on", url)
	}
	<-ctx.Done()
	return nil
}
