// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package events records what people have to know about a Node or a Service, by events on it, and
// each thing once although the controllers come back to an object every few seconds.
//
// It must not import a package that knows the backend: what is recorded, and when, is the caller's.
package events
