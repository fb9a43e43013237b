// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package stack

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// Verbose has all programs log as much as they can: the environment variable E2E_VERBOSE is set.
func Verbose() bool { return os.Getenv("E2E_VERBOSE") != "" }

// VerboseShimFlags and VerboseBackendFlags make the programs log as much as they can.
var (
	VerboseShimFlags    = []string{"--v=10"}
	VerboseBackendFlags = []string{"--log-level=debug"}
)

// Secrets are texts that no output of a program may have.
type Secrets struct {
	forms []string
}

// NewSecrets returns the credentials of the rack, and those in kubeconfig files.
func NewSecrets(kubeconfigs ...string) (Secrets, error) {
	texts := rack.Secrets()
	for _, file := range kubeconfigs {
		config, err := clientcmd.LoadFromFile(file)
		if err != nil {
			return Secrets{}, err
		}
		for _, user := range config.AuthInfos {
			if user.Token != "" {
				texts = append(texts, user.Token)
			}
		}
	}
	var s Secrets
	for _, text := range texts {
		s.forms = append(s.forms, formsOf(text)...)
	}
	return s, nil
}

// formsOf returns a text as it is, in hex, and in base64 at each of the three places within a
// longer one.
func formsOf(text string) []string {
	lower := hex.EncodeToString([]byte(text))
	forms := []string{text, lower, strings.ToUpper(lower)}
	for before := range 3 {
		// The first and the last characters depend on what is around.
		encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + text))
		forms = append(forms, encoded[2*before:len(encoded)-3])
	}
	return forms
}

// In reports whether a text has one of the secrets.
func (s Secrets) In(text []byte) bool {
	for _, form := range s.forms {
		if bytes.Contains(text, []byte(form)) {
			return true
		}
	}
	return false
}

// InFiles returns an error that names the files in a folder, and below, that have one of the secrets.
func (s Secrets) InFiles(dir string) error {
	root := os.DirFS(dir)
	var found []error
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := fs.ReadFile(root, path)
		if err == nil && s.In(text) {
			found = append(found, fmt.Errorf("a secret is in %s", filepath.Join(dir, path)))
		}
		return err
	})
	return errors.Join(append(found, err)...)
}

// InCluster returns an error that names the kinds of objects of a cluster that have one of the
// secrets; no kinds means all that the programs write, and what people read in place of it.
func (s Secrets) InCluster(ctx context.Context, client kubernetes.Interface, kinds ...string) error {
	all := metav1.ListOptions{}
	core, everywhere := client.CoreV1(), metav1.NamespaceAll
	var errs []error
	for _, kind := range []struct {
		name string
		list func() (any, error)
	}{
		{"Event", func() (any, error) { return core.Events(everywhere).List(ctx, all) }},
		{"Service", func() (any, error) { return core.Services(everywhere).List(ctx, all) }},
		{"Node", func() (any, error) { return core.Nodes().List(ctx, all) }},
		{"Pod", func() (any, error) { return core.Pods(everywhere).List(ctx, all) }},
		{"ConfigMap", func() (any, error) { return core.ConfigMaps(everywhere).List(ctx, all) }},
		{"Lease", func() (any, error) { return client.CoordinationV1().Leases(everywhere).List(ctx, all) }},
	} {
		if len(kinds) > 0 && !slices.Contains(kinds, kind.name) {
			continue
		}
		objects, err := kind.list()
		if err != nil {
			return err
		}
		text, err := json.Marshal(objects)
		if err != nil {
			return err
		}
		if s.In(text) {
			errs = append(errs, fmt.Errorf("a secret is in a %s of the cluster", kind.name))
		}
	}
	return errors.Join(errs...)
}
