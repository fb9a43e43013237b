// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Commands returns the subcommands that ask a running backend: the one at the given address unless the
// user says otherwise.
func Commands(address string) []*cobra.Command {
	return []*cobra.Command{
		newStatusCommand(address),
		newExplainCommand(address),
		newPlanCommand(address),
		newRebalanceCommand(address),
		newAddressesCommand(address),
		newOrphansCommand(address),
		newInstancesCommand(address),
		newWatchCommand(address),
		newFirewallCommand(address),
	}
}

const exitCodes = "Exit codes: 0 done; 1 failed, or not confirmed; 2 the command is wrong; 3 another " +
	"backend has to be asked."

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usagef("it takes no argument %.100q; see %s --help", args[0], cmd.CommandPath())
}

// wantsSubcommand is what a command does that is nothing without a subcommand.
func wantsSubcommand(those string) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		what := "it takes a subcommand"
		if len(args) > 0 {
			what = fmt.Sprintf("%.100q is no subcommand", args[0])
		}
		return usagef("%s: give %s; see %s --help", what, those, cmd.CommandPath())
	}
}
