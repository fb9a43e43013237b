// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package access

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// DeniedError says that a client has no right to a call.
type DeniedError struct {
	// Client is who it is, in words.
	Client string

	// Missing are the rights that it lacks, as the flag --client has them; none: it has no right at all.
	Missing []string

	remedy string
}

// Error says what to do.
func (e *DeniedError) Error() string {
	if len(e.Missing) == 0 {
		return fmt.Sprintf("%s may not call this oxide-backend: %s", e.Client, e.remedy)
	}
	return fmt.Sprintf("%s lacks the right %s: give it with --client where oxide-backend is started",
		e.Client, strings.Join(e.Missing, ","))
}

// Policy says who may do what.
type Policy struct {
	// UID is the user of the backend itself, whose processes may do everything.
	UID uint32

	// Clients are the others.
	Clients Clients

	// Refused, if not nil, is called for each connection of a client without any right.
	Refused func()
}

// rightsOf returns the rights of who makes a call, and who that is.
func (p *Policy) rightsOf(ctx context.Context) (rights Rights, known bool, client string) {
	from, _ := peer.FromContext(ctx)
	if from == nil {
		return Rights{}, false, "a client that is not known"
	}
	switch info := from.AuthInfo.(type) {
	case processInfo:
		if info.uid == p.UID {
			return Rights{all: true}, true, "this user"
		}
		rights, known = p.Clients.of(identityOfUID(info.uid))
		return rights, known, fmt.Sprintf("a process of the user %d", info.uid)
	case certificateInfo:
		rights, known = p.Clients.of(info.names)
		return rights, known, fmt.Sprintf("the client with the certificate of %.100q", info.names.String())
	}
	return Rights{}, false, "a client that is not known"
}

// check reports the refusal of a call for the lack of one of the given rights.
func (p *Policy) check(ctx context.Context, needed []string) error {
	rights, known, client := p.rightsOf(ctx)
	if !known {
		remedy := "name it with --client where that is started"
		if info, isProcess := authInfo(ctx).(processInfo); isProcess {
			remedy = fmt.Sprintf("run it as the user %d, in the container of oxide-backend for example, or "+
				"start oxide-backend with --shared-listen and --client uid:%d=read", p.UID, info.uid)
		}
		return &DeniedError{Client: client, remedy: remedy}
	}
	if missing := rights.lacks(needed); len(missing) > 0 {
		return &DeniedError{Client: client, Missing: missing}
	}
	return nil
}

func authInfo(ctx context.Context) any {
	if from, ok := peer.FromContext(ctx); ok {
		return from.AuthInfo
	}
	return nil
}

// ServerOptions have a server know its clients and hold the policy. Calls over TCP are served if
// there are credentials for them. A client that has too many calls is answered with the status tooMany.
func (p *Policy) ServerOptions(
	tls credentials.TransportCredentials, mutates func(fullMethod string) bool, tooMany error,
) []grpc.ServerOption {
	creds := &serverCredentials{tls: tls, policy: p, tooMany: tooMany}
	return []grpc.ServerOption{
		grpc.Creds(creds), grpc.InTapHandle(creds.admit),
		grpc.ChainUnaryInterceptor(p.unary(mutates)), grpc.ChainStreamInterceptor(p.stream),
	}
}

// unrestricted are the calls that everyone who can connect may make.
var unrestricted = map[string]bool{
	healthv1.Health_Check_FullMethodName: true, healthv1.Health_Watch_FullMethodName: true,
}

// unary refuses calls that the client has no right to.
func (p *Policy) unary(mutates func(fullMethod string) bool) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		if !unrestricted[info.FullMethod] {
			if err := p.check(ctx, needed(req, mutates(info.FullMethod))); err != nil {
				return nil, err
			}
		}
		return handler(ctx, req)
	}
}

// stream refuses streams, and items of them, that the client has no right to.
func (p *Policy) stream(
	srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	if unrestricted[info.FullMethod] {
		return handler(srv, stream)
	}
	if err := p.check(stream.Context(), []string{rightRead}); err != nil {
		return err
	}
	return handler(srv, &checkedStream{ServerStream: stream, policy: p})
}

// checkedStream refuses the opening of a session of a scope that the client has no right to. The items
// after that change nothing beside that session.
type checkedStream struct {
	grpc.ServerStream
	policy *Policy
}

// RecvMsg implements grpc.ServerStream.
func (s *checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	item, isItem := m.(*backendv1.SyncLoadBalancersRequest)
	if !isItem || item.GetOpen() == nil || item.GetOpen().GetObserveOnly() {
		return nil
	}
	needed := []string{scopePrefix + item.GetOpen().GetScope()}
	for _, scope := range item.GetOpen().GetAdoptedScopes() {
		needed = append(needed, scopePrefix+scope)
	}
	return s.policy.check(s.Context(), needed)
}

// needed returns the rights that a call takes. A dry run changes nothing.
func needed(req any, mutates bool) []string {
	if dry, ok := req.(interface{ GetDryRun() bool }); !mutates || ok && dry.GetDryRun() {
		return []string{rightRead}
	}
	switch req := req.(type) {
	case *backendv1.ReserveAddressRequest, *backendv1.AttachAddressRequest,
		*backendv1.DetachAddressRequest, *backendv1.DeleteAddressRequest:
		return []string{rightAddresses}
	case interface{ GetScope() string }:
		return []string{scopePrefix + req.GetScope()}
	case interface {
		GetKey() *backendv1.LoadBalancerKey
	}:
		return []string{scopePrefix + req.GetKey().GetScope()}
	}
	return []string{rightAll}
}

// refuse counts and logs a connection of a client without any right.
func (p *Policy) refuse(client string) {
	if p.Refused != nil {
		p.Refused()
	}
	slog.Warn("refused a client, which --client does not name", "client", client)
}
