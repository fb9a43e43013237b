// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/app"
	"k8s.io/cloud-provider/app/config"
	"k8s.io/cloud-provider/names"
	ccmoptions "k8s.io/cloud-provider/options"
	cliflag "k8s.io/component-base/cli/flag"
	baseversion "k8s.io/component-base/version"
	genericcontrollermanager "k8s.io/controller-manager/app"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/services"
)

// Exit codes of the command beside 0.
const (
	exitFailed        = 1
	exitMisconfigured = 2
)

// exitError is an error that says how the process ends.
type exitError struct {
	code int
	err  error

	// printed: whoever made the error has shown it to the user already.
	printed bool
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

const longHelp = `ccm-shim is the cloud controller manager for Kubernetes clusters on Oxide. It
initializes nodes, removes nodes whose instances are gone, and gives Services of type
LoadBalancer their addresses. It holds no Oxide credential and takes no decision about Oxide
resources: for that it talks to oxide-backend over a unix socket, or starts one of its own when
--backend is not given.

OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, names a collector to which spans
are sent by gRPC. Nothing is traced without it.

The subcommands "version", "help" and "completion" (for bash, fish, powershell or zsh) print and end.`

// NewCommand returns the command ccm-shim: the framework's own with all its flags, with the
// provider "oxide" by default, and with the flags of Options. It ends when ctx does.
func NewCommand(ctx context.Context) (*cobra.Command, error) {
	framework, err := ccmoptions.NewCloudControllerManagerOptions()
	if err != nil {
		return nil, fmt.Errorf("defaults of the framework: %w", err)
	}
	setDefaults(framework)

	own := NewOptions()
	var flagSets cliflag.NamedFlagSets
	own.AddFlags(flagSets.FlagSet(provider.Name))

	run := newRun(ctx, own)
	controllers := run.controllers()
	aliases := controllerAliases(controllers)
	cmd := app.NewCloudControllerManagerCommand(framework,
		func(c *config.CompletedConfig) cloudprovider.Interface { return run.cloud(c) },
		controllers, aliases, flagSets, run.stop())

	cmd.Use = "ccm-shim"
	cmd.Long = longHelp
	cmd.Flags().Lookup("help").Usage = "help for ccm-shim"
	// The usage text is two hundred lines long: after an error it would hide the error.
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return &exitError{code: exitMisconfigured, err: fmt.Errorf("%w: see ccm-shim --help", err)}
	})
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return &exitError{code: exitMisconfigured, err: fmt.Errorf(
			"%q is neither a flag nor a subcommand: see ccm-shim --help", args[0])}
	}
	addSubcommands(cmd)

	runFramework := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch cmd.Flags().Lookup("version").Value.String() {
		case "true":
			return process.PrintVersion(cmd)
		case "raw":
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%#v\n", baseversion.Get())
			return err
		}
		if own.ReadOnly {
			applyReadOnlyDefaults(framework, cmd.Flags())
		}
		errs := errors.Join(own.Complete(), own.Validate(),
			validateFramework(framework, app.ControllerNames(controllers), aliases),
			validateControllers(framework.Generic.Controllers, aliases, own.ClassedOnly))
		if errs != nil {
			return &exitError{code: exitMisconfigured, err: errs}
		}
		return run.run(cmd.Flag("logging-format").Value.String(), func() error {
			return runFramework(cmd, args)
		})
	}
	return cmd, nil
}

// addSubcommands adds the subcommands that all programs have. The framework's help is about its own
// flags, and so for the root command only.
func addSubcommands(cmd *cobra.Command) {
	process.AddCommands(cmd)
	help, usage := cmd.HelpFunc(), cmd.UsageFunc()
	plain := &cobra.Command{}
	cmd.SetHelpFunc(func(of *cobra.Command, args []string) {
		if of == cmd {
			help(of, args)
			return
		}
		plain.HelpFunc()(of, args)
	})
	cmd.SetUsageFunc(func(of *cobra.Command) error {
		if of == cmd {
			return usage(of)
		}
		return plain.UsageFunc()(of)
	})
}

// setDefaults sets defaults of the framework's flags for clusters of a thousand nodes, none of which
// one slow instance may hold up. To initialize a node takes about three requests of the API server:
// the Node, its status and an event. A client's own limit, 20 in a second by default, is what a thousand
// nodes would wait for; an API server protects itself by priority and fairness.
func setDefaults(framework *ccmoptions.CloudControllerManagerOptions) {
	framework.KubeCloudShared.CloudProvider.Name = provider.Name
	framework.Generic.ClientConnection.QPS = 400
	framework.Generic.ClientConnection.Burst = 800
	framework.NodeController.ConcurrentNodeSyncs = 50
	framework.NodeLifecycleController.ConcurrentNodeLifecycleSyncs = 20
	framework.ServiceController.ConcurrentServiceSyncs = 10
}

// readOnlyPort is where a process that changes nothing listens, beside one that does.
const readOnlyPort = 10358

// applyReadOnlyDefaults lets a process that changes nothing run at once, without the lease, which is
// for those that do.
func applyReadOnlyDefaults(framework *ccmoptions.CloudControllerManagerOptions, flags *pflag.FlagSet) {
	framework.Generic.LeaderElection.LeaderElect = false
	if !flags.Changed("secure-port") {
		framework.SecureServing.BindPort = readOnlyPort
	}
}

// controllerAliases returns the old names of the controllers.
func controllerAliases(of map[string]app.ControllerInitFuncConstructor) map[string]string {
	aliases := make(map[string]string)
	for alias, name := range names.CCMControllerAliases() {
		if _, ok := of[name]; ok {
			aliases[alias] = name
		}
	}
	return aliases
}

// validateFramework returns the errors in the framework's own flags, one line each. The framework
// would find most of them too, but one by one, and later.
func validateFramework(
	o *ccmoptions.CloudControllerManagerOptions, controllers []string, aliases map[string]string,
) error {
	var errs []error
	if name := o.KubeCloudShared.CloudProvider.Name; name != provider.Name && name != "" {
		errs = append(errs, fmt.Errorf("--cloud-provider: this program is the provider %q "+
			"and no other, not %q: leave the flag out", provider.Name, name))
	}
	if file := o.KubeCloudShared.CloudProvider.CloudConfigFile; file != "" {
		errs = append(errs, errors.New("--cloud-config: there is no configuration file: "+
			"give oxide-backend the settings of Oxide, by its flags or environment"))
	}
	errs = append(errs, validateKubeconfigs(o))
	if err := o.Validate(controllers, app.ControllersDisabledByDefault.List(), aliases,
		app.AllWebhooks, app.DisabledByDefaultWebhooks); err != nil {
		var list utilerrors.Aggregate
		if errors.As(err, &list) {
			errs = append(errs, list.Errors()...)
		} else {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// validateControllers returns an error if controllers of Services were chosen without the one that has
// all answers for them, or only such as serve nothing.
func validateControllers(given []string, aliases map[string]string, classedOnly bool) error {
	chosen := make([]string, 0, len(given))
	for _, text := range given {
		alias := strings.TrimPrefix(text, "-")
		chosen = append(chosen, strings.TrimSuffix(text, alias)+cmp.Or(aliases[alias], alias))
	}
	enabled := func(name string) bool {
		return genericcontrollermanager.IsControllerEnabled(name, app.ControllersDisabledByDefault, chosen)
	}
	var lacking []string
	for _, name := range []string{names.ServiceLBController, services.ClassName} {
		if enabled(name) && !enabled(services.Name) {
			lacking = append(lacking, name)
		}
	}
	switch {
	case len(lacking) > 0:
		return fmt.Errorf("--controllers: %s cannot do without %s: give all of them, or leave all out",
			strings.Join(lacking, " and "), services.Name)
	case classedOnly && !enabled(services.ClassName):
		return fmt.Errorf("--classed-load-balancers-only: --controllers leaves out %s, which serves those: "+
			"give it, or leave this flag out", services.ClassName)
	case classedOnly && slices.Contains(chosen, names.ServiceLBController):
		return fmt.Errorf("--classed-load-balancers-only: --controllers names %s, which serves all others: "+
			"leave one of them out", names.ServiceLBController)
	}
	return nil
}
