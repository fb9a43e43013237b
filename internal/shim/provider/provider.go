// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	cloudprovider "k8s.io/cloud-provider"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/events"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/removals"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Name is the name of the cloud provider, and the scheme of its provider IDs.
const Name = "oxide"

// LoadBalancers answers what the framework asks about Services. It is given the informers once,
// before it is asked anything.
type LoadBalancers interface {
	cloudprovider.LoadBalancer
	cloudprovider.InformerUser
}

// NodeReader reads a Node from the API server, not from a cache.
type NodeReader interface {
	Get(ctx context.Context, name string, options metav1.GetOptions) (*v1.Node, error)
}

// Config is what a Provider is made of.
type Config struct {
	// Instances is the service of the backend. Deadlines and repetitions are the connection's
	// business.
	Instances backendv1.InstanceServiceClient

	// Nodes reads Nodes from the API server.
	Nodes NodeReader

	// LoadBalancers answers what the framework asks about Services; nil: there are no load balancers.
	LoadBalancers LoadBalancers

	// Leading is called when this process leads: the framework initializes the provider of the
	// leader alone.
	Leading func()

	// Reporter records events on Nodes.
	Reporter *events.Reporter

	// RemovalInterval is how far apart Nodes are removed when there are many.
	RemovalInterval time.Duration

	// Topology says where new nodes are.
	Topology Topology
}

// Provider implements cloudprovider.Interface and cloudprovider.InformerUser.
type Provider struct {
	instances     backendv1.InstanceServiceClient
	kube          NodeReader
	loadBalancers LoadBalancers
	leading       func()

	// nodes is set by SetInformers, before any controller runs.
	nodes corelisters.NodeLister

	reporter *events.Reporter
	removals *removals.Pacer
	unproven unprovenAbsences
	topology Topology

	kept keptNodes
}

var (
	_ cloudprovider.Interface    = (*Provider)(nil)
	_ cloudprovider.InformerUser = (*Provider)(nil)
)

// New returns a provider. It asks nothing of anybody until a controller calls it.
func New(config Config) *Provider {
	return &Provider{
		instances:     config.Instances,
		kube:          config.Nodes,
		loadBalancers: config.LoadBalancers,
		leading:       config.Leading,
		reporter:      config.Reporter,
		removals:      removals.NewPacer(config.RemovalInterval),
		topology:      config.Topology,
	}
}

// Initialize says that this process leads. Nothing may block here: no informer runs yet.
func (p *Provider) Initialize(cloudprovider.ControllerClientBuilder, <-chan struct{}) { p.leading() }

// SetInformers keeps the lister of nodes.
func (p *Provider) SetInformers(factory informers.SharedInformerFactory) {
	_, err := factory.Core().V1().Nodes().Informer().AddEventHandler(
		cache.ResourceEventHandlerFuncs{DeleteFunc: p.forget})
	utilruntime.Must(err) // only an informer that has ended refuses
	if p.loadBalancers != nil {
		p.loadBalancers.SetInformers(factory)
	}
	p.nodes = factory.Core().V1().Nodes().Lister()
}

// forget forgets what was recorded on a Node that is deleted.
func (p *Provider) forget(object any) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	if node, ok := object.(*v1.Node); ok {
		p.reporter.Forget(node.UID)
		p.unproven.forget(node.UID)
		p.kept.remove(node.UID)
	}
}

// ProviderName returns "oxide".
func (p *Provider) ProviderName() string { return Name }

// HasClusterID returns true: the cluster is distinguished from others by the UID of its namespace
// kube-system, or by the flag.
func (p *Provider) HasClusterID() bool { return true }

// InstancesV2 is supported, without the errors of which the framework would log one for each node.
func (p *Provider) InstancesV2() (cloudprovider.InstancesV2, bool) { return quiet{p, &p.kept}, true }

// LoadBalancer is supported, unless load balancers are switched off.
func (p *Provider) LoadBalancer() (cloudprovider.LoadBalancer, bool) {
	return p.loadBalancers, p.loadBalancers != nil
}

// Instances is not supported: InstancesV2 replaces it, and the framework prefers that.
func (p *Provider) Instances() (cloudprovider.Instances, bool) { return nil, false }

// Zones is not supported: it is deprecated, and InstancesV2 carries zones.
func (p *Provider) Zones() (cloudprovider.Zones, bool) { return nil, false }

// Clusters is not supported: no controller uses it, and Oxide has no notion of a cluster.
func (p *Provider) Clusters() (cloudprovider.Clusters, bool) { return nil, false }

// Routes is not supported: Oxide delivers a packet to an instance only if its network interface
// admits the address, and what it admits cannot be changed while the instance runs.
func (p *Provider) Routes() (cloudprovider.Routes, bool) { return nil, false }
