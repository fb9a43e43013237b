// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package process holds what all programs of this module have in common as commands: which signals
// end them, errors in how they are called, and the subcommands help, version and completion. It
// imports nothing else of the module but its version.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	version "github.com/oxidecomputer/oxide-cloud-controller-manager"
)

// Signals returns a context that ends with its parent, or at the first signal that asks the program to
// end: an interrupt, SIGTERM, or the SIGHUP of a terminal that is closed, unless nohup or its like had
// that ignored. From the call of stop on, signals end the program at once.
func Signals(parent context.Context) (ctx context.Context, stop context.CancelFunc) {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}
	signals = slices.DeleteFunc(signals, func(s os.Signal) bool {
		return s == syscall.SIGHUP && signal.Ignored(s)
	})
	return signal.NotifyContext(parent, signals...)
}

// UsageError holds all that is wrong with a command line or a configuration.
type UsageError struct{ Errs []error }

// Error implements error.
func (e *UsageError) Error() string { return errors.Join(e.Errs...).Error() }

// Unwrap gives errors.Is and errors.As the single errors.
func (e *UsageError) Unwrap() []error { return e.Errs }

// AddCommands gives a root command the subcommand version, which accepts the arguments that the root
// accepts, and with it cobra's own help and completion, which only commands with subcommands have.
func AddCommands(root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use:   "version",
		Short: "Print the version of " + root.Name(),
		Args:  root.Args,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return PrintVersion(cmd)
		},
	})
}

// PrintVersion prints the name and version of the program that the command belongs to.
func PrintVersion(cmd *cobra.Command) error {
	_, err := fmt.Fprintln(cmd.OutOrStdout(), cmd.Root().Name(), version.String())
	return err
}

// VersionTemplate lets cobra's flag --version print what PrintVersion does.
const VersionTemplate = "{{.Name}} {{.Version}}\n"
