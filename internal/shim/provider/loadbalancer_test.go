// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	cloudprovider "k8s.io/cloud-provider"
)

func TestWhatIsSupported(t *testing.T) {
	p := New(Config{})
	if p.ProviderName() != "oxide" || !p.HasClusterID() {
		t.Error("the provider has another name, or no cluster id")
	}
	if _, ok := p.InstancesV2(); !ok {
		t.Error("InstancesV2 is not supported")
	}
	if _, ok := p.LoadBalancer(); !ok {
		t.Error("LoadBalancer is not supported")
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

// told stands where Services are seen to. It notes what it is asked, and answers with err.
type told struct {
	calls []string
	err   error
}

func (l *told) UseClients(cloudprovider.ControllerClientBuilder) {
	l.calls = append(l.calls, "clients")
}

func (l *told) UseInformers(informers.SharedInformerFactory) error {
	l.calls = append(l.calls, "informers")
	return l.err
}

func (l *told) Ensure(_ context.Context, s *v1.Service) (*v1.LoadBalancerStatus, error) {
	l.calls = append(l.calls, "ensure "+s.Name)
	return &s.Status.LoadBalancer, l.err
}

func (l *told) Update(_ context.Context, s *v1.Service) error {
	l.calls = append(l.calls, "update "+s.Name)
	return l.err
}

func (l *told) Release(_ context.Context, s *v1.Service) error {
	l.calls = append(l.calls, "release "+s.Name)
	return l.err
}

func TestCallsAboutServicesArePassedOnAndAnsweredAsTheyAre(t *testing.T) {
	for name, err := range map[string]error{
		"success": nil,
		// The framework compares this one by identity.
		"a sentinel": cloudprovider.ImplementedElsewhere,
	} {
		t.Run(name, func(t *testing.T) {
			l := &told{err: err}
			p := New(Config{LoadBalancers: l})
			balancer, _ := p.LoadBalancer()
			s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
			if got := balancer.GetLoadBalancerName(t.Context(), "any", s); got != "shop/web" {
				t.Errorf("GetLoadBalancerName() = %q", got)
			}

			p.Initialize(nil, nil)
			status, ensureErr := balancer.EnsureLoadBalancer(t.Context(), "any", s, nil)
			if status != &s.Status.LoadBalancer {
				t.Errorf("EnsureLoadBalancer() = %v", status)
			}
			for _, got := range []error{
				ensureErr,
				balancer.UpdateLoadBalancer(t.Context(), "any", s, nil),
				balancer.EnsureLoadBalancerDeleted(t.Context(), "any", s),
			} {
				if got != err { //nolint:errorlint // as the framework does
					t.Errorf("the error is %v, want %v", got, err)
				}
			}
			want := []string{"clients", "ensure web", "update web", "release web"}
			if diff := cmp.Diff(want, l.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// "No" would make the framework drop its finalizer without deleting anything, or forget that an update
// failed.
func TestSomethingOfAServiceIsAlwaysSaidToRemain(t *testing.T) {
	now := metav1.Now()
	published := v1.LoadBalancerStatus{Ingress: []v1.LoadBalancerIngress{{IP: "198.51.100.9"}}}
	for name, s := range map[string]*v1.Service{
		"wanted":           {Spec: v1.ServiceSpec{Type: v1.ServiceTypeLoadBalancer}},
		"not wanted":       {Spec: v1.ServiceSpec{Type: v1.ServiceTypeClusterIP}},
		"being deleted":    {ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}},
		"with its address": {Status: v1.ServiceStatus{LoadBalancer: published}},
	} {
		t.Run(name, func(t *testing.T) {
			l := &told{err: errors.New("asked")}
			status, exists, err := New(Config{LoadBalancers: l}).GetLoadBalancer(t.Context(), "any", s)
			if err != nil || !exists {
				t.Errorf("GetLoadBalancer() = %v, %v", exists, err)
			}
			if diff := cmp.Diff(&s.Status.LoadBalancer, status); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if len(l.calls) > 0 {
				t.Errorf("it asked %v", l.calls)
			}
		})
	}
}

// The informers are not started: this is about who is given them.
func TestInformersReachWhoSeesToServices(t *testing.T) {
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	l := &told{err: errors.New("refused")}
	p := New(Config{LoadBalancers: l})
	p.SetInformers(informers.NewSharedInformerFactory(client, 0))
	if p.nodes == nil {
		t.Error("there is no lister of Nodes, although only following Services was refused")
	}
	if diff := cmp.Diff([]string{"informers"}, l.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}
