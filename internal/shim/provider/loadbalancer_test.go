// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"context"
	"reflect"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	cloudprovider "k8s.io/cloud-provider"
)

// balancer stands where the framework's questions about Services are answered.
type balancer struct {
	cloudprovider.LoadBalancer
	informers int
}

func (b *balancer) SetInformers(informers.SharedInformerFactory) { b.informers++ }

func TestWhatIsSupported(t *testing.T) {
	b := new(balancer)
	p := New(Config{LoadBalancers: b})
	if p.ProviderName() != "oxide" || !p.HasClusterID() {
		t.Error("the provider has another name, or no cluster id")
	}
	if _, ok := p.InstancesV2(); !ok {
		t.Error("InstancesV2 is not supported")
	}
	if got, ok := p.LoadBalancer(); !ok || got != cloudprovider.LoadBalancer(b) {
		t.Error("LoadBalancer is not supported, or not the one that was given")
	}
	for name, supported := range map[string]func() bool{
		"Instances": func() bool { _, ok := p.Instances(); return ok },
		"Zones":     func() bool { _, ok := p.Zones(); return ok },
		"Clusters":  func() bool { _, ok := p.Clusters(); return ok },
		"Routes":    func() bool { _, ok := p.Routes(); return ok },
	} {
		if supported() {
			t.Errorf("%s is supported", name)
		}
	}
}

// The informers are not started: this is about who is given them.
func TestInformersReachWhatAnswersAboutServices(t *testing.T) {
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	b := new(balancer)
	p := New(Config{LoadBalancers: b})
	p.SetInformers(informers.NewSharedInformerFactory(client, 0))
	if p.nodes == nil || b.informers != 1 {
		t.Errorf("there is a lister of Nodes: %t; informers were passed on %d times",
			p.nodes != nil, b.informers)
	}
}

func TestOnlyTheFrameworkSaysThatThisProcessLeads(t *testing.T) {
	leads := 0
	p := New(Config{Leading: func() { leads++ }})
	if leads != 0 {
		t.Error("it leads before the framework has said so")
	}
	p.Initialize(nil, nil)
	if leads != 1 {
		t.Errorf("that was reported %d times, want once", leads)
	}
}

// Where load balancers are switched off no Service is read.
func TestWithoutLoadBalancersNoServiceIsFollowed(t *testing.T) {
	p := New(Config{})
	if got, ok := p.LoadBalancer(); ok || got != nil {
		t.Errorf("LoadBalancer() = %v, %t", got, ok)
	}
	factory := informers.NewSharedInformerFactory(fake.NewClientset(), 0)
	p.SetInformers(factory)
	ctx, cancel := context.WithCancel(t.Context())
	defer factory.Shutdown()
	defer cancel()
	factory.Start(ctx.Done())
	followed := factory.WaitForCacheSync(ctx.Done())
	if len(followed) != 1 || !followed[reflect.TypeFor[*v1.Node]()] {
		t.Errorf("it follows %v, want Nodes alone", followed)
	}
}
