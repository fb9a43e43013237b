// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// tokenLifetime outlasts a kept demo of a working day.
const tokenLifetime = 24 * time.Hour

// ServiceAccount returns a client configuration with the identity of a service account, by a token
// of the TokenRequest API as a pod would have it. The service account must exist.
func (c *Cluster) ServiceAccount(
	ctx context.Context, namespace, name string,
) (*rest.Config, error) {
	seconds := int64(tokenLifetime / time.Second)
	token, err := c.Client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name,
		&authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds},
		}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("no token for the service account %s/%s: %w", namespace, name, err)
	}
	return c.config(func(config *rest.Config) {
		config.BearerToken = token.Status.Token
	}), nil
}

// User returns a client configuration with the identity of a user in these groups, by a client
// certificate.
func (c *Cluster) User(name string, groups ...string) (*rest.Config, error) {
	pair, err := c.pki.ca.issue(pkix.Name{CommonName: name, Organization: groups}, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot make the certificate of %s: %w", name, err)
	}
	return c.config(func(config *rest.Config) {
		config.CertData, config.KeyData = pair.cert, pair.key
	}), nil
}

// WriteKubeconfig writes a client configuration of this cluster as a kubeconfig file, which only
// its owner can read.
func (c *Cluster) WriteKubeconfig(path, user string, config *rest.Config) error {
	return writeKubeconfig(path, user, config)
}

func writeKubeconfig(path, user string, config *rest.Config) error {
	const name = "e2e"
	file := clientcmdapi.NewConfig()
	file.Clusters[name] = &clientcmdapi.Cluster{
		Server: config.Host, CertificateAuthorityData: config.CAData,
	}
	file.AuthInfos[user] = &clientcmdapi.AuthInfo{
		ClientCertificateData: config.CertData, ClientKeyData: config.KeyData,
		Token: config.BearerToken,
	}
	file.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	file.CurrentContext = name
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		return fmt.Errorf("cannot write the kubeconfig of %s: %w", user, err)
	}
	return nil
}
