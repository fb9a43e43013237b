// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
)

// Binaries are the paths of the control plane's programs.
type Binaries struct {
	Etcd          string
	KubeAPIServer string
	// Kubernetes and EtcdVersion are their versions, such as v1.37.2, and Source says where they are
	// from.
	Kubernetes, EtcdVersion, Source string
}

// String returns one line about them.
func (b Binaries) String() string {
	return fmt.Sprintf("Kubernetes %s and etcd %s, %s", b.Kubernetes, b.EtcdVersion, b.Source)
}

// Options say where Get takes the programs from.
type Options struct {
	// Module is the folder of the module that pins their versions (test/e2e/kube).
	Module string
	// Cache is the folder that keeps what was built or fetched, see CacheDir.
	Cache  string
	Report progress.Reporter
	// Fetch lets setup-envtest fetch them before they are built; nil: they are built.
	Fetch *Fetch
}

// Get returns etcd and kube-apiserver: those in the folder that the environment variable
// KUBEBUILDER_ASSETS names, if it is set; else those that were built before; else, if the options
// say so, those that setup-envtest fetches; else it builds them, one at a time. It reports where
// they are from, with their versions.
//
// Two runs at once do not collide: the second waits for the first. A program is put into the cache
// only when it is complete.
func Get(ctx context.Context, options Options) (Binaries, error) {
	b, err := openCache(ctx, options.Module, options.Cache, options.Report)
	if err != nil {
		return Binaries{}, err
	}
	result, err := b.get(ctx, options)
	if err != nil {
		return Binaries{}, err
	}
	text := "control plane: " + result.String()
	if minor(result.Kubernetes) != minor(b.kube) {
		text += "; it is made for " + b.kube
	}
	options.Report.Say(text)
	return result, nil
}

func (b *builder) get(ctx context.Context, options Options) (Binaries, error) {
	if result, found, err := assets(ctx); found || err != nil {
		return result, err
	}
	built := b.inCache()
	if options.Fetch == nil || isFile(built.Etcd) && isFile(built.KubeAPIServer) {
		return b.both(ctx)
	}
	fetched, err := b.fetch(ctx, filepath.Join(options.Cache, "fetched"), *options.Fetch)
	if err == nil {
		return fetched, nil
	}
	if ctx.Err() != nil {
		return Binaries{}, context.Cause(ctx)
	}
	b.report.Done("not possible: " + err.Error() + "; they are built instead, which takes minutes, once")
	return b.both(ctx)
}

// checkRelease returns an error unless kube-apiserver is of the release that other programs of
// Kubernetes are pinned to: none of them may be newer than it.
func (b *builder) checkRelease(with Binaries) error {
	if minor(with.Kubernetes) == minor(b.kube) {
		return nil
	}
	return fmt.Errorf("kube-apiserver is %s (%s) and the other programs are %s: %s",
		with.Kubernetes, with.Source, b.kube, unset)
}
