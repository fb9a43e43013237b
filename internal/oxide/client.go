// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
	api "github.com/oxidecomputer/oxide.go/oxide"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
)

// APIVersion is the version of the Oxide API that oxide.go v0.10.0 speaks, as it sends it in the
// header API-Version.
const APIVersion = "2026060800.0.0"

const (
	// readTimeout bounds one try of a read.
	readTimeout = 15 * time.Second
	// readTries is how often a read is tried in all, within the caller's deadline.
	readTries = 4
	// mutationTimeout bounds a mutation: attach and detach wait for the sled, which Oxide gives
	// up on after about a minute.
	mutationTimeout = 95 * time.Second
)

// Client calls the Oxide API for one project. It is safe for concurrent use.
type Client struct {
	api     *api.Client
	base    *http.Transport
	metrics *metrics
	project string
	// readOnly refuses every change.
	readOnly bool
	// pageLimit is the page size of lists.
	pageLimit int
	// ends is where lists were found to end.
	ends *listEnds

	identity identityCache
	flights  singleflight.Group
}

// New returns a client. It sends nothing yet.
func New(cfg Config, registerer prometheus.Registerer) (*Client, error) {
	m := newMetrics(registerer)
	base := newBaseTransport(cfg)
	httpClient := &http.Client{
		Transport: &transport{next: base, token: cfg.Token, metrics: m},
		// The token must not follow a redirect to somebody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	client, err := api.NewClient(
		api.WithHost(cfg.Host.String()),
		// The library insists on a token; the transport replaces it by the one to use now.
		api.WithToken("replaced-by-transport"),
		api.WithHTTPClient(httpClient),
		api.WithUserAgent(cfg.UserAgent),
	)
	if err != nil {
		return nil, fmt.Errorf("make the Oxide client: %s", oneLine(err.Error()))
	}
	return &Client{
		api: client, base: base, metrics: m, project: cfg.Project, readOnly: cfg.ReadOnly,
		pageLimit: pageLimit, ends: newListEnds(),
	}, nil
}

// Close closes the idle connections.
func (c *Client) Close() { c.base.CloseIdleConnections() }

// operation names a call.
type operation struct {
	// id is Oxide's operationId, for metrics.
	id string
	// doing says what is tried, for errors.
	doing string
	// inProject marks a call whose only object is the project: a 404 is about that.
	inProject bool
	// collaborator marks a change that takes the role collaborator on the project.
	collaborator bool
	// inSilo marks a call about what the silo has: it takes a role there.
	inSilo bool
	// of is the id of the object in the path, for a list of what it has; empty: there is none.
	of string
	// apiVersion is the version to ask for instead of APIVersion; empty: this one.
	apiVersion string
}

// listOf is objectCall for a list of what the object in the path has.
func listOf(of, id, doing string) operation { return operation{id: id, doing: doing, of: of} }

func objectCall(id, doing string) operation { return operation{id: id, doing: doing} }

func siloCall(id, doing string) operation {
	return operation{id: id, doing: doing, inSilo: true}
}

func projectCall(id, doing string) operation {
	return operation{id: id, doing: doing, inProject: true}
}

// read makes a call that changes nothing, and tries again with growing delay while Oxide is
// unavailable and the context lasts.
func read[T any](
	ctx context.Context, c *Client, op operation, call func(context.Context) (T, error),
) (T, error) {
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval = 100*time.Millisecond, 2*time.Second
	tries := 0
	result, err := backoff.Retry(ctx, func() (T, error) {
		if tries++; tries > 1 {
			c.metrics.retries.WithLabelValues(op.id).Inc()
		}
		v, err := try(ctx, op, readTimeout, tries, call)
		if err != nil && !IsKind(err, KindUnavailable) {
			return v, backoff.Permanent(err)
		}
		return v, err
	}, backoff.WithBackOff(delays), backoff.WithMaxTries(readTries), backoff.WithMaxElapsedTime(0))
	if err == nil {
		return result, nil
	}
	var e *Error
	if !errors.As(err, &e) {
		// The context ended between two tries.
		e = &Error{Operation: op.doing, Kind: KindEnded, Err: ctx.Err()}
	}
	e.reading, e.inSilo = true, op.inSilo
	if e.Kind == KindMalformed && op.id != opPing && op.id != opUser {
		// Of a call with parameters that alone does not say whether the rack is older.
		if _, err := c.Contact(ctx); IsKind(err, KindVersionUnsupported) {
			e.Kind = KindVersionUnsupported
		}
	}
	return result, e
}

// mutate makes a call that changes something: once, because its outcome is not known if it fails,
// and not at all if the caller has gone, or if nothing may be changed.
func mutate[T any](
	ctx context.Context, c *Client, op operation, call func(context.Context) (T, error),
) (T, error) {
	if c.readOnly {
		var none T
		return none, &Error{Operation: op.doing, Kind: KindReadOnly}
	}
	if ctx.Err() != nil {
		var none T
		return none, &Error{Operation: op.doing, Kind: KindEnded, Err: ctx.Err()}
	}
	v, err := try(ctx, op, mutationTimeout, 1, call)
	var e *Error
	if errors.As(err, &e) {
		e.collaborator = op.collaborator
	}
	return v, err
}

// try makes one try of a call, the tries-th.
func try[T any](
	ctx context.Context, op operation, timeout time.Duration, tries int,
	call func(context.Context) (T, error),
) (_ T, err error) {
	tryCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tryCtx, span := startSpan(tryCtx, op)
	x := &exchange{operation: op.id, apiVersion: op.apiVersion}
	defer func() { endSpan(span, x, tries, err) }()
	v, err := call(withExchange(tryCtx, x))
	if err == nil {
		err = x.foreign()
	}
	if err != nil {
		// Only the caller's context counts as ended: a try that timed out means unavailable.
		e := newError(ctx, op.doing, err, x)
		if e.Kind == KindNotFound && op.inProject {
			e.Kind = KindProjectNotFound
		}
		return v, e
	}
	return v, nil
}
