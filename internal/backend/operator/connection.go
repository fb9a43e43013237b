// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/uds"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// SocketVariable is the environment variable that names the socket where the flag --socket does not.
const SocketVariable = "OXIDE_BACKEND_SOCKET"

// options are the flags that all subcommands have.
type options struct {
	address string
	scope   string
	output  string

	// naming are the flags that name something. A variable that is not set must not make them mean all.
	naming []string

	// socket is the path in address, parsed by complete.
	socket string
	flags  *pflag.FlagSet
}

// addFlags adds the flags of a subcommand that asks the backend at the given address unless the user
// says otherwise.
func (o *options) addFlags(fs *pflag.FlagSet, address string) {
	o.flags = fs
	fs.StringVar(&o.address, "socket", address,
		"The unix socket of the oxide-backend to ask, as its flag --listen has it. Environment: "+
			SocketVariable+".")
	fs.StringVarP(&o.output, "output", "o", formTable, "Form of what is printed: table, json or yaml.")
}

// addScopeFlag adds the flag of a subcommand that is about the load balancers of one scope.
func (o *options) addScopeFlag(fs *pflag.FlagSet) {
	fs.StringVar(&o.scope, "scope", o.scope,
		"The id of the cluster (or other owner of load balancers) to ask about. If empty, the one that has a "+
			"session in this backend.")
}

// scopePattern is what the API takes as LoadBalancerKey.scope.
var scopePattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`)

// complete checks the flags, and reports all that is wrong with them together.
func (o *options) complete() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	address, setting := o.address, "--socket"
	if named := os.Getenv(SocketVariable); named != "" && !o.flags.Changed("socket") {
		address, setting = named, SocketVariable
	}
	var err error
	if o.socket, err = uds.ParseAddress(address); err != nil {
		refuse("%s: %.100q: %w", setting, address, err)
	}
	if o.scope != "" && !scopePattern.MatchString(o.scope) {
		refuse("--scope: %.100q is not 1 to 63 letters, digits, \".\", \"_\" and \"-\": leave it out, or "+
			"give the cluster's id", o.scope)
	}
	for _, flag := range o.naming {
		if text := o.flags.Lookup(flag).Value.String(); o.flags.Changed(flag) && (text == "" || text == "[]") {
			refuse("--%s: it is empty, and would be as if it were left out: give a name, or leave it out", flag)
		}
	}
	if !slices.Contains(forms, o.output) {
		refuse("--output: %.100q is none of %s", o.output, strings.Join(forms, ", "))
	}
	if len(errs) > 0 {
		return &process.UsageError{Errs: errs}
	}
	return nil
}

// connection is one to a running backend.
type connection struct {
	*grpc.ClientConn
	*options
}

// connect connects to the backend. It fails at once where none can answer.
func (o *options) connect() (*connection, error) {
	if err := checkSocket(o.socket); err != nil {
		return nil, err
	}
	conn, err := client.Dial(o.socket)
	if err != nil {
		return nil, err
	}
	return &connection{conn, o}, nil
}

// withConnection does something with a connection.
func withConnection(o *options, do func(c *connection) error) error {
	if err := o.complete(); err != nil {
		return err
	}
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return do(c)
}

// withScope does something with a connection, for the scope that is asked about.
func withScope(cmd *cobra.Command, o *options, do func(c *connection, scope string) error) error {
	return withConnection(o, func(c *connection) error {
		scope, err := c.scopeAsked(cmd.Context())
		if err != nil {
			return err
		}
		return do(c, scope)
	})
}

// checkSocket says why nobody answers at a socket. A connection alone would be tried again and again.
func checkSocket(socket string) error {
	const whereItRuns = "run this where one runs, in its container for example, or give its socket by " +
		"--socket or in " + SocketVariable
	conn, err := net.DialTimeout("unix", socket, time.Second)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no oxide-backend at %s: %s", socket, whereItRuns)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no oxide-backend listens at %s any more: %s", socket, whereItRuns)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the user %d may not use %s: run this as the user of oxide-backend, in its "+
			"container for example", os.Geteuid(), socket)
	case err != nil:
		return fmt.Errorf("oxide-backend cannot be asked at %s: %w", socket, err)
	}
	_ = conn.Close()
	return nil
}

// call makes a call, whose error is one for people. How long it may take the client says.
func call[Request, Response any](
	ctx context.Context, method func(context.Context, Request, ...grpc.CallOption) (Response, error),
	request Request,
) (Response, error) {
	response, err := method(ctx, request)
	if err != nil {
		return response, callError(err)
	}
	return response, nil
}

// scopeAsked returns the scope that is asked about: the one that the user gave, or the only one that
// has an acting session in the backend.
func (c *connection) scopeAsked(ctx context.Context) (string, error) {
	if c.scope != "" {
		return c.scope, nil
	}
	info, err := call(ctx, backendv1.NewBackendServiceClient(c).GetInfo, new(backendv1.GetInfoRequest))
	if err != nil {
		return "", err
	}
	switch scopes := info.GetActingScopes(); len(scopes) {
	case 1:
		return scopes[0], nil
	case 0:
		return "", elsewhereError{errors.New("no session runs in this oxide-backend, since its client " +
			"stands by or is not connected: ask the oxide-backend of the replica that leads")}
	default:
		return "", usagef("--scope: this oxide-backend has sessions of %d scopes: give one of %s",
			len(scopes), strings.Join(scopes, ", "))
	}
}
