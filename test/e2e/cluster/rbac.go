// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

// ApplyIdentity creates the ServiceAccounts, Roles and bindings of a manifest, and nothing else of
// it, so that a program can be run with exactly the rights that the manifest gives it. It returns
// the service accounts. Objects that exist already are left as they are.
func (c *Cluster) ApplyIdentity(
	ctx context.Context, manifest []byte,
) ([]types.NamespacedName, error) {
	var accounts []types.NamespacedName
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return accounts, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the manifest is no YAML: %w", err)
		}
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(document, nil, nil)
		if runtime.IsMissingKind(err) { // comments only
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the manifest holds an object that cannot be read: %w", err)
		}
		if err := c.createIdentity(ctx, object); err != nil {
			return nil, err
		}
		if account, ok := object.(*corev1.ServiceAccount); ok {
			accounts = append(accounts,
				types.NamespacedName{Namespace: account.Namespace, Name: account.Name})
		}
	}
}

func (c *Cluster) createIdentity(ctx context.Context, object runtime.Object) error {
	var err error
	create := metav1.CreateOptions{}
	core, rbac := c.Client.CoreV1(), c.Client.RbacV1()
	switch o := object.(type) {
	case *corev1.ServiceAccount:
		_, err = core.ServiceAccounts(o.Namespace).Create(ctx, o, create)
	case *rbacv1.ClusterRole:
		_, err = rbac.ClusterRoles().Create(ctx, o, create)
	case *rbacv1.ClusterRoleBinding:
		_, err = rbac.ClusterRoleBindings().Create(ctx, o, create)
	case *rbacv1.Role:
		_, err = rbac.Roles(o.Namespace).Create(ctx, o, create)
	case *rbacv1.RoleBinding:
		_, err = rbac.RoleBindings(o.Namespace).Create(ctx, o, create)
	default:
		return nil
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("cannot create the %T of the manifest: %w", object, err)
	}
	return nil
}
