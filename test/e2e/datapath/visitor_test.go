// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"bufio"
	"context"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

// attemptLimit is how long a client waits for an answer before it gives up.
const attemptLimit = 250 * time.Millisecond

// visitor is clients that connect to one address of a Service again and again.
type visitor struct {
	address string
	cancel  context.CancelFunc
	workers sync.WaitGroup

	mu      sync.Mutex
	answers []answer
}

// answer is an attempt that was answered.
type answer struct{ began, ended time.Time }

// visit lets a client connect to an address every interval, until stop is called.
func visit(address string, port int32, interval time.Duration) *visitor {
	v := &visitor{address: net.JoinHostPort(address, strconv.Itoa(int(port)))}
	var ctx context.Context
	ctx, v.cancel = context.WithCancel(context.Background())
	// Each begins its attempts as far apart as one may last.
	workers := int((attemptLimit + interval - 1) / interval)
	for i := range workers {
		v.workers.Go(func() {
			_ = within(clientNamespace, func() error {
				v.work(ctx, time.Duration(i)*interval, time.Duration(workers)*interval)
				return nil
			})
		})
	}
	return v
}

func (v *visitor) work(ctx context.Context, offset, interval time.Duration) {
	next := time.NewTimer(offset)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		began := time.Now()
		next.Reset(interval)
		if v.attempt() == nil {
			v.mu.Lock()
			v.answers = append(v.answers, answer{began, time.Now()})
			v.mu.Unlock()
		}
	}
}

// attempt connects once and reads what the pod says.
func (v *visitor) attempt() error {
	conn, err := net.DialTimeout("tcp", v.address, attemptLimit)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Else the port that it was made from would be in use for a minute more.
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	if err := conn.SetDeadline(time.Now().Add(attemptLimit)); err != nil {
		return err
	}
	_, err = bufio.NewReader(conn).ReadString('\n')
	return err
}

// firstAnswer waits for the first answer to an attempt that began after a time.
func (v *visitor) firstAnswer(ctx context.Context, after time.Time) (first time.Time, err error) {
	err = process.Await(ctx, func(context.Context) (bool, error) {
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, answer := range v.answers {
			if answer.began.After(after) && (first.IsZero() || answer.ended.Before(first)) {
				first = answer.ended
			}
		}
		return !first.IsZero(), nil
	})
	return first, err
}

// stop ends all attempts.
func (v *visitor) stop() {
	v.cancel()
	v.workers.Wait()
}
