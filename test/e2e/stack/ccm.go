// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package stack

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// LeaseName is the lease, in kube-system, for which the replicas of any cloud controller manager
// compete.
const LeaseName = "cloud-controller-manager"

// CCM is one replica of the cloud controller manager.
type CCM struct {
	// Backend is nil in child mode: the shim runs its own then.
	Backend *process.Process
	Shim    *process.Process
	// Socket is the address of the backend, empty in child mode.
	Socket string
	// Oxide is what the backend is told at its next start.
	Oxide Oxide

	options CCMOptions
	token   string
	health  string
	secure  string
	// shim is how the shim was started last.
	shim process.Spec
}

// CCMOptions say what to start, and where.
type CCMOptions struct {
	Group    *process.Group
	Programs Programs
	Cluster  *cluster.Cluster
	Rack     *rack.Rack
	// Kubeconfig is the file with the shim's identity, see Identity.
	Kubeconfig string
	// Dir is an existing folder with a short path: the socket goes there.
	Dir string
	// Child leaves the backend to the shim.
	Child bool
	// Standby is for a further replica: it is healthy, and another one leads.
	Standby bool
	// Namespace is the network namespace that both run in, as `ip netns` names it, and Address its
	// address, at which they report that they are healthy; empty: the own one, and 127.0.0.1.
	Namespace, Address string
	// Name distinguishes the log files of several replicas; empty for the first.
	Name string
	// ShimFlags and BackendFlags are added to theirs; a backend of the shim's own has none. Whoever
	// switches probes of nodes on gives all of them addresses in network namespaces of its own.
	ShimFlags, BackendFlags []string
	// Env are variables of both programs, as KEY=VALUE.
	Env []string
}

// Oxide says which part of which rack a backend uses.
type Oxide struct{ Host, Project, Token string }

// Identity gives the shim its own identity: it applies the service account and the rights of the
// rendered manifest, and writes a kubeconfig file with a token of that account into dir.
func Identity(
	ctx context.Context, c *cluster.Cluster, root, dir string,
) (kubeconfig string, err error) {
	text, err := manifest(root)
	if err != nil {
		return "", err
	}
	accounts, err := c.ApplyIdentity(ctx, text)
	if err != nil {
		return "", err
	}
	if len(accounts) != 1 {
		return "", fmt.Errorf("the manifest has %d service accounts, want one", len(accounts))
	}
	config, err := c.ServiceAccount(ctx, accounts[0].Namespace, accounts[0].Name)
	if err != nil {
		return "", err
	}
	kubeconfig = filepath.Join(dir, "ccm.kubeconfig")
	return kubeconfig, c.WriteKubeconfig(kubeconfig, accounts[0].Name, config)
}

// StartCCM runs the backend until it is ready, then the shim until it leads or, as a standby, is
// healthy.
func StartCCM(ctx context.Context, options CCMOptions) (*CCM, error) {
	c := &CCM{
		options: options, token: filepath.Join(options.Dir, "token"),
		Oxide: Oxide{Host: options.Rack.URL, Project: rack.Project, Token: rack.Token},
	}
	if err := c.writeToken(); err != nil {
		return nil, err
	}
	if !options.Child {
		c.Socket = socketIn(options.Dir)
		if err := c.StartBackend(ctx); err != nil {
			return nil, err
		}
	}
	return c, c.StartShim(ctx)
}

// Commands returns how the backend, which is healthy at one port of loopback, and the shim, at
// another, are started by somebody else, beside a rack at a URL. They are not started; what they
// read is written.
func Commands(
	options CCMOptions, rackURL string, backendPort, shimPort int,
) (backend, shim process.Spec, err error) {
	c := &CCM{
		options: options, token: filepath.Join(options.Dir, "token"), Socket: socketIn(options.Dir),
		Oxide: Oxide{Host: rackURL, Project: rack.Project, Token: rack.Token},
	}
	c.health = net.JoinHostPort(c.address(), strconv.Itoa(backendPort))
	return c.backendSpec(), c.shimSpec(shimPort), c.writeToken()
}

// SetBackendFlags changes the flags that are added to those of the backend at its next start.
func (c *CCM) SetBackendFlags(flags ...string) { c.options.BackendFlags = flags }

func socketIn(dir string) string {
	return "unix://" + filepath.Join(dir, "backend", "backend.sock")
}

// StartBackend runs a backend that has no shim, until it is ready: for consumers that know no
// Kubernetes. Cluster and Kubeconfig of the options are not needed.
func StartBackend(ctx context.Context, options CCMOptions) (*CCM, error) {
	c := &CCM{
		options: options, token: filepath.Join(options.Dir, "token"), Socket: socketIn(options.Dir),
		Oxide: Oxide{Host: options.Rack.URL, Project: rack.Project, Token: rack.Token},
	}
	return c, c.StartBackend(ctx)
}

// StartBackend runs the backend, again if it was stopped, and waits until it is ready.
func (c *CCM) StartBackend(ctx context.Context) error {
	if err := c.writeToken(); err != nil {
		return err
	}
	return process.WithFreePorts(1, func(_ int, ports []int) error {
		c.health = net.JoinHostPort(c.address(), strconv.Itoa(ports[0]))
		backend, err := c.options.Group.Run(ctx, c.backendSpec(), c.BackendReady)
		if err == nil {
			c.Backend = backend
		}
		return err
	})
}

func (c *CCM) backendSpec() process.Spec {
	return process.Spec{
		Name: "oxide-backend" + c.options.Name, Namespace: c.options.Namespace,
		Path: c.options.Programs.Backend, Env: c.backendEnv(),
		Args: c.backendArgs(),
	}
}

func (c *CCM) backendArgs() []string {
	args := []string{"--listen=" + c.Socket, "--health-listen=" + c.health, "--log-format=text"}
	if Verbose() {
		args = append(args, VerboseBackendFlags...)
	}
	return append(args, c.options.BackendFlags...)
}

func (c *CCM) writeToken() error {
	if err := os.WriteFile(c.token, []byte(c.Oxide.Token+"\n"), 0o600); err != nil {
		return fmt.Errorf("cannot write the token file: %w", err)
	}
	return nil
}

// MoveBackend starts the backend again in another place.
func (c *CCM) MoveBackend(ctx context.Context, to Oxide) error {
	if err := c.Backend.Stop(stopGrace); err != nil {
		return err
	}
	c.Oxide = to
	return c.StartBackend(ctx)
}

// BackendReady returns nil if the backend says that it is ready, otherwise why not.
func (c *CCM) BackendReady(ctx context.Context) error {
	return process.HTTPGet(http.DefaultClient, "http://"+c.health+"/readyz")(ctx)
}

// HealthURL returns the URL of something that the backend serves beside its API.
func (c *CCM) HealthURL(path string) string { return "http://" + c.health + path }

// ShimURL returns the URL of something that the shim serves.
func (c *CCM) ShimURL(path string) string { return "https://" + c.secure + path }

// address is the one at which the programs report that they are healthy.
func (c *CCM) address() string { return cmp.Or(c.options.Address, "127.0.0.1") }

func (c *CCM) backendEnv() []string {
	return append([]string{
		"OXIDE_HOST=" + c.Oxide.Host,
		"OXIDE_PROJECT=" + c.Oxide.Project,
		"OXIDE_TOKEN_FILE=" + c.token,
		"TMPDIR=" + c.options.Dir,
	}, c.options.Env...)
}

// StartShim runs the shim, again if it was stopped, and waits until it is healthy and, unless it is
// a standby, leads. The lease that an earlier leader left behind is removed first: nobody waits
// here until it runs out.
func (c *CCM) StartShim(ctx context.Context) error {
	if c.options.Standby {
		return c.runShim(ctx)
	}
	leases := c.options.Cluster.Client.CoordinationV1().Leases(metav1.NamespaceSystem)
	err := leases.Delete(ctx, LeaseName, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot remove the old lease: %w", err)
	}
	if err := c.runShim(ctx); err != nil {
		return err
	}
	return c.awaitLeader(ctx)
}

func (c *CCM) runShim(ctx context.Context) error {
	insecure := &http.Client{Transport: &http.Transport{
		// The shim signs its own certificate, and nothing secret is asked for.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
		DisableKeepAlives: true,
	}}
	return process.WithFreePorts(1, func(_ int, ports []int) error {
		spec := c.shimSpec(ports[0])
		c.shim = spec
		c.secure = net.JoinHostPort(c.address(), strconv.Itoa(ports[0]))
		shim, err := c.options.Group.Run(ctx, spec, process.HTTPGet(insecure, c.ShimURL("/healthz")))
		if err == nil {
			c.Shim = shim
		}
		return err
	})
}

// ResumeShim starts the shim again after it ended by itself, as a kubelet does: it waits for
// nothing, and leaves the lease as it is.
func (c *CCM) ResumeShim() error {
	shim, err := c.options.Group.Start(c.shim)
	if err == nil {
		c.Shim = shim
	}
	return err
}

func (c *CCM) shimSpec(port int) process.Spec {
	spec := process.Spec{
		Name: "ccm-shim" + c.options.Name, Namespace: c.options.Namespace,
		Path: c.options.Programs.Shim, Args: c.shimArgs(port), Env: c.options.Env,
	}
	if c.options.Child {
		spec.Env = c.backendEnv()
	}
	return spec
}

func (c *CCM) shimArgs(port int) []string {
	args := []string{
		"--kubeconfig=" + c.options.Kubeconfig,
		"--authentication-kubeconfig=" + c.options.Kubeconfig,
		"--authorization-kubeconfig=" + c.options.Kubeconfig,
		"--bind-address=" + c.address(), "--secure-port=" + strconv.Itoa(port),
		"--cert-dir=" + filepath.Join(c.options.Dir, "shim-certs"),
		"--v=2",
		// The addresses of Nodes are made up: who has them is not asked.
		"--probe-nodes=false",
	}
	if c.Socket != "" {
		args = append(args, "--backend="+c.Socket)
	}
	if Verbose() {
		args = append(args, VerboseShimFlags...)
	}
	return append(args, c.options.ShimFlags...)
}

// leaderLimit is how long a shim that is healthy may take to lead.
const leaderLimit = 20 * time.Second

func (c *CCM) awaitLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, leaderLimit,
		errors.New("ccm-shim took no lease within "+leaderLimit.String()))
	defer cancel()
	return c.Shim.Ready(ctx, func(ctx context.Context) error {
		lease, err := c.Lease(ctx)
		if err != nil {
			return err
		}
		if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
			return errors.New("nobody holds the lease")
		}
		return nil
	})
}

// Lease returns the lease of the leader.
func (c *CCM) Lease(ctx context.Context) (*coordinationv1.Lease, error) {
	return c.options.Cluster.Client.CoordinationV1().Leases(metav1.NamespaceSystem).
		Get(ctx, LeaseName, metav1.GetOptions{})
}

// stopGrace is what the programs are given to end.
const stopGrace = 25 * time.Second

// Stop ends the shim, then the backend.
func (c *CCM) Stop() error {
	var errs []error
	for _, p := range []*process.Process{c.Shim, c.Backend} {
		if p != nil {
			errs = append(errs, p.Stop(stopGrace))
		}
	}
	return errors.Join(errs...)
}
