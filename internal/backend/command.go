// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	version "github.com/oxidecomputer/oxide-cloud-controller-manager"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/operator"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
)

// Exit codes of the program.
const (
	exitOK = iota
	exitFailure
	// exitUsage: the configuration is wrong; starting again cannot help.
	exitUsage
)

// Main runs the program and returns its exit code.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := NewCommand()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errCheckFailed) || errors.Is(err, operator.ErrReported) {
		// The report has said it.
		return exitFailure
	}
	for _, line := range lines(err) {
		fmt.Fprintln(stderr, "oxide-backend: "+line)
	}
	var usage *process.UsageError
	var own interface{ ExitCode() int }
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &own):
		return own.ExitCode()
	}
	return exitFailure
}

// NewCommand returns the command oxide-backend with its subcommands.
func NewCommand() *cobra.Command {
	opts := NewOptions()
	cmd := &cobra.Command{
		Use:   "oxide-backend",
		Short: "Serve the gRPC API oxide.backend.v1 in front of an Oxide rack",
		Long: "oxide-backend looks up the instances of an Oxide project and gives load balancers " +
			"their addresses.\nIt serves the gRPC API oxide.backend.v1 on a unix socket that only " +
			"its own user can reach,\nand is the only part of the Oxide Cloud Controller Manager " +
			"that holds the Oxide token.\n\n" +
			"OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, names a collector to which\n" +
			"spans are sent by gRPC. Nothing is traced without it.",
		Args:          noArguments,
		Version:       version.String(),
		SilenceErrors: true,

		SuggestionsMinimumDistance: 2,
		SilenceUsage:               true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.Complete(os.Getenv)
			cfg, err := opts.Validate()
			if err != nil {
				return err
			}
			return Run(cmd.Context(), cfg)
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &process.UsageError{Errs: []error{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}}
	})
	opts.AddFlags(cmd.Flags())
	cmd.SetVersionTemplate(process.VersionTemplate)
	cmd.AddCommand(newCheckCommand())
	cmd.AddCommand(operator.Commands(DefaultListen)...)
	process.AddCommands(cmd)
	return cmd
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	meant := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		meant = ": do you mean " + strings.Join(near, " or ") + "?"
	}
	return &process.UsageError{Errs: []error{
		fmt.Errorf("it takes no argument %q%s; see %s --help", args[0], meant, cmd.CommandPath()),
	}}
}

// singly returns the errors of an errors.Join one by one.
func singly(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

// lines returns the single errors of a UsageError, or the error itself.
func lines(err error) []string {
	var usage *process.UsageError
	if !errors.As(err, &usage) {
		return []string{err.Error()}
	}
	texts := make([]string, 0, len(usage.Errs))
	for _, e := range usage.Errs {
		texts = append(texts, e.Error())
	}
	return texts
}
