// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/access"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/uds"
)

func (o *Options) addAccessFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.SharedListen, "shared-listen", o.SharedListen,
		"A second address to serve gRPC on, unix:///PATH, that every user of this machine can reach: who may "+
			"do what there is said by --client. Empty: none.")
	fs.StringVar(&o.TLSListen, "tls-listen", o.TLSListen,
		"Address to serve gRPC on over TCP, for example 127.0.0.1:10270. Clients need a certificate, and "+
			"may do what --client says. Empty: nowhere.")
	fs.StringVar(&o.Certificates.CertFile, "tls-cert-file", o.Certificates.CertFile,
		"PEM file with the certificate of --tls-listen and its chain. Like the other files of certificates "+
			"it is read again for connections after a minute.")
	fs.StringVar(&o.Certificates.KeyFile, "tls-private-key-file", o.Certificates.KeyFile,
		"PEM file with the key of --tls-cert-file.")
	fs.StringVar(&o.Certificates.ClientCAFile, "client-ca-file", o.Certificates.ClientCAFile,
		"PEM file with the authorities that sign the certificates of clients of --tls-listen.")
	fs.StringArrayVar(&o.Clients, "client", o.Clients,
		"What a client of --shared-listen or --tls-listen may do: IDENTITY=RIGHT[,RIGHT...]. IDENTITY is "+
			"uid:NUMBER, uid:* for every user of this machine, or a URI or DNS name of a certificate (the "+
			"common name where it has neither). RIGHT is read, scope:SCOPE to change what belongs to that scope "+
			"as well, addresses to change addresses of no scope, or all. Can be given more than once.")
}

// checkAccess completes what a configuration says of addresses beside the private socket, and
// reports all that is wrong with it.
func (o *Options) checkAccess(cfg *Config) (errs []error) {
	refuse := func(setting string, err error) {
		for _, each := range singly(err) {
			errs = append(errs, fmt.Errorf("%s: %w", setting, each))
		}
	}
	var err error
	if o.SharedListen != "" {
		cfg.SharedSocketPath, err = uds.ParseAddress(o.SharedListen)
		refuse("--shared-listen", err)
		if err == nil && cfg.SharedSocketPath == cfg.SocketPath {
			refuse("--shared-listen", errors.New("it is the socket of --listen, which only this user reaches: "+
				"give one in a directory of its own"))
		}
	}
	cfg.TLSListen = o.TLSListen
	refuse("--tls-listen", checkListen(o.TLSListen))
	switch {
	case o.TLSListen != "":
		cfg.TLSCredentials, err = o.Certificates.Credentials()
		errs = append(errs, singly(err)...)
	case o.Certificates != access.Certificates{}:
		refuse("--tls-cert-file, --tls-private-key-file, --client-ca-file",
			errors.New("they are for --tls-listen, which is not given"))
	}
	cfg.Clients, err = access.ParseClients(o.Clients)
	refuse("--client", err)
	further := o.SharedListen != "" || o.TLSListen != ""
	switch {
	case further && len(o.Clients) == 0:
		refuse("--client", errors.New("it names nobody, so that no client could do anything at "+
			"--shared-listen or --tls-listen: name one, for example --client uid:1001=read"))
	case !further && len(o.Clients) > 0:
		refuse("--client", errors.New("it is for --shared-listen and --tls-listen, and neither is given"))
	}
	return errs
}
