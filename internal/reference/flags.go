// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"cmp"
	"context"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim"
)

// backendPage describes oxide-backend and its subcommands.
func backendPage() string {
	cmd := backend.NewCommand()
	p := newPage("oxide-backend")
	p.section("", describe(cmd))
	p.table(flagHeader, flagRows(cmd.Flags(), nil))
	p.subcommands(cmd)
	return p.String()
}

// subcommands describes all subcommands of a command, and theirs.
func (p *page) subcommands(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		if sub.Hidden {
			continue
		}
		p.section(sub.CommandPath(), describe(sub))
		if rows := flagRows(sub.Flags(), nil); len(rows) > 0 {
			p.table(flagHeader, rows)
		}
		if sub.Example != "" {
			p.section("", "```\n"+strings.ReplaceAll(strings.TrimSpace(sub.Example), "\n  ", "\n")+"\n```")
		}
		p.subcommands(sub)
	}
}

// shimPage describes ccm-shim: first its own flags, then those of the framework.
func shimPage(ctx context.Context) (string, error) {
	cmd, err := shim.NewCommand(ctx)
	if err != nil {
		return "", err
	}
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	shim.NewOptions().AddFlags(own)
	p := newPage("ccm-shim")
	p.section("", describe(cmd))
	p.section("Flags of its own", "What this cloud controller manager has beyond any other.")
	p.table(flagHeader, flagRows(own, nil))
	p.section("Flags of the framework", "Every cloud controller manager has these, from "+
		"`k8s.io/cloud-provider`; some have other defaults here.")
	p.table(flagHeader, flagRows(cmd.Flags(), own))
	return p.String(), nil
}

func describe(cmd *cobra.Command) string { return cell(cmp.Or(cmd.Long, cmd.Short+".")) }

var flagHeader = []string{"Flag", "Default", "Meaning"}

// flagRows returns a row for each flag in a set and not in another one, in the order of their names.
func flagRows(flags, but *pflag.FlagSet) [][]string {
	var rows [][]string
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Hidden || flag.Deprecated != "" || flag.Name == "help" || flag.Name == "version" ||
			but != nil && but.Lookup(flag.Name) != nil {
			return
		}
		kind, usage := pflag.UnquoteUsage(flag)
		name := "--" + flag.Name
		if kind != "" {
			name += " " + kind
		}
		value := flag.DefValue
		if value == "[]" {
			value = ""
		}
		rows = append(rows, []string{code(name), code(value), cell(usage)})
	})
	return rows
}
