// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package events tells people what they have to know about a Node, by events on it, and each thing
// once although the controllers come back to a Node every few seconds.
//
// It must not import a package that knows the backend: what is told, and when, is the caller's.
package events
