// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ccmoptions "k8s.io/cloud-provider/options"
)

// validateKubeconfigs says whether there is an API server to talk to, without talking to it, and
// whether all kubeconfig files can be used. Of each file there is one error at most.
func validateKubeconfigs(o *ccmoptions.CloudControllerManagerOptions) error {
	var errs []error
	if file := o.Generic.ClientConnection.Kubeconfig; file != "" {
		errs = append(errs, validateKubeconfig("--kubeconfig", file, o.Master))
	} else if o.Master == "" && os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		errs = append(errs, errors.New("--kubeconfig: no Kubernetes API server is configured: outside a "+
			"cluster give a kubeconfig file, inside one run as a pod with a service account"))
	}
	if file := o.Authentication.RemoteKubeConfigFile; file != "" {
		errs = append(errs, validateKubeconfig("--authentication-kubeconfig", file, ""))
	}
	if file := o.Authorization.RemoteKubeConfigFile; file != "" {
		errs = append(errs, validateKubeconfig("--authorization-kubeconfig", file, ""))
	}
	return errors.Join(errs...)
}

// validateKubeconfig says whether a client can be made of the file. The error never quotes what is
// in a file that is none: it may be a secret that stands in the wrong place.
func validateKubeconfig(flag, file, master string) error {
	content, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrPermission):
		// In a container the file usually belongs to whoever started it.
		uid, gid := os.Geteuid(), os.Getegid()
		return fmt.Errorf("%s: %s cannot be read by the UID %d, as which this program "+
			"runs: let that user read it, or with podman become that user by "+
			"--userns=keep-id:uid=%d,gid=%d", flag, file, uid, uid, gid)
	case err != nil:
		return fmt.Errorf("%s: %s cannot be read (%w): give a kubeconfig file", flag, file,
			withoutPath(err))
	}
	if _, err := clientcmd.Load(content); err != nil {
		return fmt.Errorf("%s: %s is not a kubeconfig file%s: give one, as kubectl uses it",
			flag, file, lineOf(err))
	}
	config, err := clientcmd.BuildConfigFromFlags(master, file)
	if err == nil {
		if _, _, urlErr := rest.DefaultServerUrlFor(config); urlErr != nil {
			return fmt.Errorf("%s: %s: the server of its cluster is not a URL: give one with which "+
				"kubectl works", flag, file)
		}
		_, err = kubernetes.NewForConfig(config)
	}
	switch {
	case clientcmd.IsEmptyConfig(err):
		return fmt.Errorf("%s: %s names no cluster, or its current-context is not set or not there: "+
			"give one with which kubectl works", flag, file)
	case err != nil:
		return fmt.Errorf("%s: %s: %s: give one with which kubectl works", flag, file, shorten(err))
	}
	return nil
}

func withoutPath(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}

var lineNumber = regexp.MustCompile(`\bline [0-9]+`)

// lineOf names the line that a parser stumbled at, if it said so.
func lineOf(err error) string {
	if line := lineNumber.FindString(err.Error()); line != "" {
		return " (" + line + ")"
	}
	return ""
}

// maxQuoted bounds what is quoted of an error of client-go.
const maxQuoted = 200

// shorten makes an error of client-go fit for one line.
func shorten(err error) string {
	text := strings.TrimPrefix(err.Error(), "invalid configuration: ")
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxQuoted {
		text = strings.ToValidUTF8(text[:maxQuoted], "") + "…"
	}
	return text
}
