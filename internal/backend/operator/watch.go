// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const watchHelp = `watch prints a line for each change, with the time at which it was seen, until it is
ended by Ctrl-C (exit code 0):

  instance       state, private and external addresses, anti-affinity groups and size, as the backend
                 reports them within seconds of Oxide
  load balancer  how far it is, where its addresses are and are going, what is wrong with it, read every
                 5 s: what comes and goes between two readings is not shown

It never opens a session, so it disturbs nobody: load balancers are what lists and plans show, of the
scope that has a session in this backend. Where none has, they are those of the whole project as the
markers in Oxide show them, without what only a session knows. While the backend or Oxide cannot be asked
a line says so, and watch goes on once they can. In JSON each line is an object.

` + exitCodes

func newWatchCommand(address string) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:     "watch",
		Short:   "Print a line for each change of an instance or a load balancer, until Ctrl-C",
		Long:    watchHelp,
		Example: "  oxide-backend watch\n  oxide-backend watch -o json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withConnection(&o, func(c *connection) error {
				if err := watch(cmd, c); cmd.Context().Err() == nil {
					return err
				}
				return nil // it ends as the user wants it
			})
		},
	}
	o.addFlags(cmd.Flags(), address)
	o.addScopeFlag(cmd.Flags())
	return cmd
}

// The kinds of what is watched, and what happens to it.
const (
	ofInstance     = "instance"
	ofLoadBalancer = "load balancer"
	// allInstances and allLoadBalancers are for what concerns all of them.
	allInstances     = "instances"
	allLoadBalancers = "load balancers"

	added   = "added"
	changed = "changed"
	removed = "removed"
	failing = "failing"
	working = "working"
)

// event is one line of watch.
type event struct {
	time time.Time
	// kind is of what it is, name what people call it.
	kind, name string
	what       string
	// text says what is other than before.
	text string
	// object is as it is now; nil: it is gone.
	object proto.Message
}

// watch prints changes until the context ends.
func watch(cmd *cobra.Command, c *connection) error {
	info, err := call(cmd.Context(), backendv1.NewBackendServiceClient(c).GetInfo,
		new(backendv1.GetInfoRequest))
	if err != nil {
		return err
	}
	n, err := readNames(cmd.Context(), c, onlyScope(c.scope, info), info.GetActingScopes())
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(cmd.Context())
	events := make(chan event)
	send := func(e event) {
		e.time = time.Now()
		select {
		case events <- e:
		case <-ctx.Done():
		}
	}
	instances := newInstanceChanges(c, n, send)
	group.Go(func() error { return instances.run(ctx) })
	group.Go(func() error {
		balancers := newLoadBalancerChanges(c, info, instances.name, send)
		if err := balancers.start(ctx); err != nil {
			return err
		}
		select {
		case <-instances.synced:
		case <-ctx.Done():
			return ctx.Err()
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "Watching %s and %s; Ctrl-C ends it.\n",
			counted(len(instances.watch.Instances()), "instance", "instances"), balancers.what())
		return balancers.run(ctx)
	})
	group.Go(func() error {
		for {
			select {
			case e := <-events:
				if err := e.print(cmd.OutOrStdout(), c.output); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return group.Wait()
}

// eventInJSON is an event for programs.
type eventInJSON struct {
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"`
	Name   string    `json:"name"`
	Change string    `json:"change"`
	Text   string    `json:"text"`
	Object *inJSON   `json:"object"`
}

func (c event) print(w io.Writer, form string) error {
	if form == formTable {
		_, err := fmt.Fprintf(w, "%s  %s\n", c.time.Format(time.TimeOnly), c.sentence())
		return err
	}
	object := eventInJSON{Time: c.time.UTC(), Kind: c.kind, Name: c.name, Change: c.what, Text: c.text}
	if c.object != nil {
		inJSON := jsonOf(c.object)
		object.Object = &inJSON
	}
	text, err := json.Marshal(object)
	if err == nil && form == formYAML {
		text, err = yaml.JSONToYAML(text)
		text = append([]byte("---\n"), text...)
	} else {
		text = append(text, '\n')
	}
	if err != nil {
		return fmt.Errorf("print %s: %w", form, err)
	}
	_, err = w.Write(text)
	return err
}

// sentence is a change for people.
func (c event) sentence() string {
	subject := c.kind
	if c.name != "" {
		subject += " " + c.name
	}
	text := c.text
	if c.what == added || c.what == removed {
		text = c.what
		if c.text != "" {
			text += ": " + c.text
		}
	}
	return subject + ": " + text
}
