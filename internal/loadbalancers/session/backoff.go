// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import "time"

// backoff is the pause before something is tried again that has failed. It grows with each failure.
type backoff struct {
	failures int
	// at is when the last one was, until when nothing is tried, err what it was.
	at, until time.Time
	err       error
	// instance is where it failed; elsewhere it may be tried from elsewhereAt on.
	instance    string
	elsewhereAt time.Time
}

// fail notes a failure; the pause doubles from first to most.
func (b *backoff) fail(now time.Time, err error, first, most time.Duration) {
	pause := first << min(b.failures, 16)
	if pause > most || pause <= 0 {
		pause = most
	}
	b.failures++
	b.at, b.until, b.err = now, now.Add(pause), err
	b.elsewhereAt = now.Add(first)
}

// retryAt returns until when it is not tried at an instance; empty: no instance is concerned.
func (b *backoff) retryAt(instance string) time.Time {
	if instance != b.instance && b.elsewhereAt.Before(b.until) {
		return b.elsewhereAt
	}
	return b.until
}

// forgive lets it be tried again at once. If that fails, too, the next pause is longer all the same.
func (b *backoff) forgive() { b.until, b.elsewhereAt = time.Time{}, time.Time{} }
