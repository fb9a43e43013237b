// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	version "github.com/oxidecomputer/oxide-cloud-controller-manager"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/sanity"
)

// Exit codes of the program.
const (
	exitConforms = iota
	// exitFails: a case failed, or the run was interrupted.
	exitFails
	// exitUsage: the flags are wrong.
	exitUsage
	// exitNotExamined: the backend could not be examined, or what was made could not be removed.
	exitNotExamined
)

// errFails is returned where the report has said what fails.
var errFails = errors.New("the backend does not conform")

// Main runs the program and returns its exit code.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := NewCommand()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	var usage *process.UsageError
	switch {
	case err == nil:
		return exitConforms
	case errors.Is(err, errFails):
		return exitFails
	case errors.As(err, &usage):
		for _, one := range usage.Errs {
			fmt.Fprintln(stderr, "oxide-backend-sanity:", one)
		}
		return exitUsage
	}
	fmt.Fprintln(stderr, "oxide-backend-sanity:", err)
	return exitNotExamined
}

// NewCommand returns the command oxide-backend-sanity.
func NewCommand() *cobra.Command {
	opts := NewOptions()
	cmd := &cobra.Command{
		Use:   "oxide-backend-sanity",
		Short: "Examine whether a backend keeps to the API oxide.backend.v1",
		Long: "oxide-backend-sanity examines whether a running backend, whoever wrote it, does what the " +
			"comments\nof the API oxide.backend.v1 promise. It removes what it makes, and touches nothing " +
			"else.\n\nExit codes: 0 all cases that were not skipped passed; 1 one failed, or the run was " +
			"interrupted;\n2 wrong flags; 3 the backend could not be examined, or not be cleaned up after.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return &process.UsageError{Errs: []error{
				fmt.Errorf("it takes no argument %q; see %s --help", args[0], cmd.CommandPath()),
			}}
		},
		Version:       version.String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := opts.Validate()
			if err != nil {
				return err
			}
			if opts.List {
				return list(&options, cmd.OutOrStdout())
			}
			return run(cmd.Context(), options, opts.Output, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &process.UsageError{Errs: []error{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}}
	})
	opts.AddFlags(cmd.Flags())
	cmd.SetVersionTemplate(process.VersionTemplate)
	process.AddCommands(cmd)
	return cmd
}

// list prints the cases that are selected.
func list(options *sanity.Options, out io.Writer) error {
	for _, one := range options.Selected() {
		if _, err := fmt.Fprintln(out, one.Name); err != nil {
			return err
		}
		for _, sentence := range one.Contract {
			fmt.Fprintf(out, "    %s\n", sentence)
		}
	}
	return nil
}

func run(ctx context.Context, options sanity.Options, format string, out, progress io.Writer) error {
	if len(options.Selected()) == 0 {
		return &process.UsageError{Errs: []error{fmt.Errorf("--run: no case has a name that %s matches; "+
			"--list prints them", options.Select)}}
	}
	if format != formatText {
		out, progress = progress, out
	}
	options.Observe = func(result sanity.Result) {
		if format == formatText || result.Outcome == sanity.Failed {
			_ = result.WriteText(out)
		}
	}
	report, err := sanity.Run(ctx, options)
	if report == nil {
		return err
	}
	for _, name := range report.Removed {
		fmt.Fprintln(out, "removed, since an earlier run had left it:", name)
	}
	fmt.Fprintln(out, report.Summary())
	if format != formatText {
		err = errors.Join(err, write(report, format, progress))
	}
	if err == nil && !report.Conforms() {
		return errFails
	}
	return err
}
