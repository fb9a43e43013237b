// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing/otlp"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/uds"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Options are the settings of ccm-shim beside those of the framework.
type Options struct {
	// Backend is the address of oxide-backend as the user wrote it; empty means that the shim runs
	// one of its own.
	Backend string

	// BackendUnreachableExit is how long the backend may be unreachable before the shim exits; 0
	// means for ever.
	BackendUnreachableExit time.Duration

	// ClusterID is the id under which the cluster owns its addresses in Oxide; empty means the UID
	// of the namespace kube-system.
	ClusterID string

	// AdoptedClusterIDs are ids of clusters that this one takes over from.
	AdoptedClusterIDs []string

	// LegacyClusterName is what the existing Oxide CCM called the cluster; empty: nothing is taken
	// over from it.
	LegacyClusterName string

	// ReservedPorts is the list of ports that load balancers may not serve.
	ReservedPorts string

	// NodeName is the Node that this program runs on; empty: it is not on one.
	NodeName string

	// ProbeNodes finds out by probes of the kubelets' ports which Nodes are dead.
	ProbeNodes bool

	// ClassedOnly leaves Services without a loadBalancerClass to others.
	ClassedOnly bool

	// ReadOnly changes nothing, in Oxide or in Kubernetes, and logs what would be changed.
	ReadOnly bool

	// ManageFirewall and FirewallPriority are flags of the backend that the shim starts.
	ManageFirewall   bool
	FirewallPriority int

	// TimeScale multiplies what the controller of load balancers waits for.
	TimeScale float64

	// NodeRemovalInterval is how far apart Nodes are removed when there are many.
	NodeRemovalInterval time.Duration

	// Region and Zone are what nodes are labelled with; empty: not at all. ZoneFromRack takes the id
	// of an instance's rack for the zone. RelabelTopology labels nodes that have another region or
	// zone, too.
	Region, Zone    string
	ZoneFromRack    bool
	RelabelTopology bool

	// socket is the path in Backend, and reservedPorts are those in ReservedPorts, parsed by Complete.
	socket        string
	reservedPorts []*backendv1.ReservedPorts
	// tracing says where spans are sent, by the environment; nil: nowhere.
	tracing *otlp.Config
}

// defaultFirewallPriority is also that of the backend.
const defaultFirewallPriority = 1000

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		BackendUnreachableExit: 30 * time.Second, NodeRemovalInterval: 5 * time.Second,
		TimeScale: 1, LegacyClusterName: "kubernetes", ReservedPorts: defaultReservedPorts,
		FirewallPriority: defaultFirewallPriority,
	}
}

// AddFlags adds the flags that set the options.
func (o *Options) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.Backend, "backend", o.Backend,
		"The unix socket of oxide-backend, for example unix:///run/oxide/backend/backend.sock. "+
			"If empty, oxide-backend is started from beside this program on a private socket; it "+
			"takes its configuration from the environment (OXIDE_HOST, OXIDE_TOKEN or "+
			"OXIDE_TOKEN_FILE, OXIDE_PROJECT) and ends with this program.")
	flags.DurationVar(&o.BackendUnreachableExit, "backend-unreachable-exit",
		o.BackendUnreachableExit,
		"Exit when oxide-backend has been unreachable, or has answered nothing, for this long, so "+
			"that a replica whose backend works takes over. 0 means never.")
	flags.StringVar(&o.ClusterID, "cluster-id", o.ClusterID,
		"The id under which this cluster owns its addresses in Oxide. If empty, the UID of the "+
			"namespace kube-system. To be set only for a cluster that was restored from the backup "+
			"of one that still runs.")
	flags.StringSliceVar(&o.AdoptedClusterIDs, "adopt-cluster-id", o.AdoptedClusterIDs,
		"The id of a cluster that this one was rebuilt from and that is gone: its addresses become "+
			"this cluster's, for Services of the same namespace and name. May be given several times.")
	flags.StringVar(&o.LegacyClusterName, "legacy-cluster-name", o.LegacyClusterName,
		"The --cluster-name under which the earlier Oxide cloud controller manager ran: the addresses "+
			"that it gave to Services are taken over, and keep their names. Empty: none are.")
	flags.StringVar(&o.ReservedPorts, "reserved-ports", o.ReservedPorts,
		"Ports that no Service of type LoadBalancer may have, because it would take them from the "+
			"nodes: a comma-separated list of ports and ranges.")
	flags.StringVar(&o.NodeName, "node-name", o.NodeName,
		"The Node that this program runs on. It is given an address only if no other Node can carry "+
			"it, because an address is also the source of what its Node sends.")
	flags.BoolVar(&o.ProbeNodes, "probe-nodes", o.ProbeNodes,
		"Ask each Node at its kubelet's port every second, by TCP, while this process leads and "+
			"there are Services of type LoadBalancer. A Node that does not answer, and whose lease in the "+
			"namespace kube-node-lease is overdue, gives its addresses to others, long before Kubernetes calls "+
			"it not ready. For a process in the nodes' network, with the right to get those leases.")
	flags.BoolVar(&o.ClassedOnly, "classed-load-balancers-only", o.ClassedOnly,
		"Serve only Services whose spec.loadBalancerClass is "+annotations.ClassFloatingIP+" or "+
			annotations.ClassExternalSubnet+", in a cluster where somebody else serves those without a class. "+
			"A Service without a class that was served before keeps what it has, as it is, until it is deleted "+
			"or its type changes.")
	flags.BoolVar(&o.ReadOnly, "read-only", o.ReadOnly,
		"Change nothing, in Oxide or in Kubernetes, and send no events: log what would be changed, and "+
			"count it in metrics. No lease is taken, so this runs at once and beside the cloud controller "+
			"manager that is in charge. It listens on port 10358, unless --secure-port says otherwise.")
	flags.BoolVar(&o.ManageFirewall, "manage-firewall", o.ManageFirewall,
		"Without --backend: keep rules in the VPC firewall that let in what Services of type LoadBalancer "+
			"serve. It takes the role collaborator on the project. For the oxide-backend that is started; one "+
			"at --backend has a flag of the same name.")
	flags.IntVar(&o.FirewallPriority, "firewall-priority", o.FirewallPriority,
		"Without --backend: the priority of these rules, 0 to 65535. A rule that denies wins over them if "+
			"its number is not greater.")
	flags.Float64Var(&o.TimeScale, "load-balancer-time-scale", o.TimeScale,
		"For tests: a factor for everything that load balancers wait for, damping among it.")
	_ = flags.MarkHidden("load-balancer-time-scale")
	flags.DurationVar(&o.NodeRemovalInterval, "node-removal-interval", o.NodeRemovalInterval,
		"How far apart Nodes are removed whose instances are gone, once 3 Nodes, or one in ten if "+
			"that is more, were removed within ten minutes.")
	flags.StringVar(&o.Region, "region", o.Region,
		"The region of all nodes, for the label topology.kubernetes.io/region and the older one "+
			"that means the same. Oxide knows no regions, so it is yours to name.")
	flags.StringVar(&o.Zone, "zone", o.Zone,
		"The zone of all nodes, for the label topology.kubernetes.io/zone and the older one that "+
			"means the same, for example a name for the rack.")
	flags.BoolVar(&o.ZoneFromRack, "zone-from-rack", o.ZoneFromRack,
		"Take the id of the rack that an instance runs on for the zone of its node. Oxide tells it "+
			"by metrics, an interface that it calls experimental, half a minute after an instance "+
			"starts. Not together with --zone.")
	flags.BoolVar(&o.RelabelTopology, "relabel-topology", o.RelabelTopology,
		"Give the region and zone to nodes that have others already, too. Volumes and pods that "+
			"are bound to the old ones will not follow.")
}

// legacyNamePattern is what the backend accepts as OpenSession.legacy_name.
var legacyNamePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// clusterIDPattern is what the backend accepts as LoadBalancerKey.scope.
var clusterIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`)

// Complete parses what was given as text. Its error is one line with the name of the flag.
func (o *Options) Complete() error {
	var errs []error
	var tracingErr error
	if o.tracing, tracingErr = otlp.FromEnvironment(os.Getenv); tracingErr != nil {
		errs = append(errs, tracingErr)
	}
	reserved, err := parseReservedPorts(o.ReservedPorts)
	if err != nil {
		errs = append(errs, fmt.Errorf("--reserved-ports: %w", err))
	}
	o.reservedPorts = reserved
	if o.Backend != "" {
		if o.socket, err = uds.ParseAddress(o.Backend); err != nil {
			errs = append(errs, fmt.Errorf("--backend: %q: %w", o.Backend, err))
		}
	}
	return errors.Join(errs...)
}

// Validate returns all errors together, one line each, with the name of the flag.
func (o *Options) Validate() error {
	var errs []error
	refuse := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(o.BackendUnreachableExit < 0, "--backend-unreachable-exit: %s is negative: "+
		"give a duration such as 30s, or 0 for never", o.BackendUnreachableExit)
	refuse(o.ClusterID != "" && !clusterIDPattern.MatchString(o.ClusterID),
		"--cluster-id: %q is not 1 to 63 letters, digits, \".\", \"_\" and \"-\": leave it out to use "+
			"the UID of the namespace kube-system", o.ClusterID)
	for _, id := range o.AdoptedClusterIDs {
		itself := id == o.ClusterID && id != ""
		refuse(itself, "--adopt-cluster-id: %q is --cluster-id: nothing is "+
			"taken over from the cluster itself, leave one of them out", id)
		refuse(!itself && !clusterIDPattern.MatchString(id), "--adopt-cluster-id: %q is not "+
			"1 to 63 letters, digits, \".\", \"_\" and \"-\": give the UID of the namespace kube-system "+
			"of the cluster that is gone", id)
	}
	refuse(o.LegacyClusterName != "" && !legacyNamePattern.MatchString(o.LegacyClusterName),
		"--legacy-cluster-name: %q cannot begin the name of a floating IP: give lower-case letters, "+
			"digits and \"-\", or nothing", o.LegacyClusterName)
	refuse(o.NodeName != "" && len(validation.IsDNS1123Subdomain(o.NodeName)) > 0,
		"--node-name: %q cannot be the name of a Node: give the one that this program runs on, or "+
			"leave it out", o.NodeName)
	for _, flag := range []struct {
		name  string
		given bool
	}{
		{"--manage-firewall", o.ManageFirewall},
		{"--firewall-priority", o.FirewallPriority != defaultFirewallPriority},
	} {
		refuse(flag.given && o.Backend != "", "%s: it is for an oxide-backend that this program starts: give "+
			"it to the one at --backend, and leave it out here", flag.name)
	}
	refuse(o.TimeScale <= 0, "--load-balancer-time-scale: %v is no factor for a time to wait: leave it "+
		"out", o.TimeScale)
	refuse(o.NodeRemovalInterval <= 0, "--node-removal-interval: %s is no time to wait: give a "+
		"duration such as 5s", o.NodeRemovalInterval)
	for _, flag := range []struct{ name, value string }{
		{"--region", o.Region}, {"--zone", o.Zone},
	} {
		refuse(flag.value != "" && len(validation.IsValidLabelValue(flag.value)) > 0,
			"%s: %q cannot be the value of a label: give 1 to 63 letters, digits, \".\", \"_\" and "+
				"\"-\", a letter or digit at both ends", flag.name, flag.value)
	}
	refuse(o.ZoneFromRack && o.Zone != "", "--zone-from-rack: --zone says %q already: leave one of "+
		"them out", o.Zone)
	refuse(o.RelabelTopology && o.Region == "" && o.Zone == "" && !o.ZoneFromRack,
		"--relabel-topology: there is nothing to relabel with: give --region, --zone or "+
			"--zone-from-rack, too")
	return errors.Join(errs...)
}

// topology says where nodes are.
func (o *Options) topology() provider.Topology {
	return provider.Topology{
		Region: o.Region, Zone: o.Zone, ZoneFromRack: o.ZoneFromRack, Relabel: o.RelabelTopology,
	}
}

// backendArguments are the flags of a backend that the shim starts.
func (o *Options) backendArguments(logFormat string) []string {
	arguments := []string{"--log-format=" + logFormat}
	if o.ReadOnly {
		arguments = append(arguments, "--read-only")
	}
	if o.ManageFirewall {
		arguments = append(arguments, "--manage-firewall",
			fmt.Sprintf("--firewall-priority=%d", o.FirewallPriority))
	}
	return arguments
}
