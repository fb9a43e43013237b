// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package health says what each candidate may be used for: from what a client observes of it, and
// from what Oxide shows of its instance, with damping. It reads no clock and makes no call: whoever
// evaluates says what time it is.
//
//	types.go       what is observed, and what follows
//	evaluator.go   Evaluator: damping, causes and since when
//	cause.go       what one candidate is found to be, without regard to the others
//	suspension.go  failover is suspended while too many candidates turn not ready at once
package health
