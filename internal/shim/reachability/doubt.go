// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"time"

	"k8s.io/klog/v2"
)

// doubtWindow is for how long an answer counts as a sign that the network of this process works.
// Nodes that were not probed within it, because there are so many, do not count at all.
const doubtWindow = 2 * time.Second

// othersAnswer says whether a silent probe of a node that ends now counts: whether at least half of the
// other nodes that have ever answered, and whose last probe ended within doubtWindow, answered it. A
// probe that was sent in an outage may end after it, when one node answers again before another.
func (p *Prober) othersAnswer(n *node, now time.Time) bool {
	concluded, answered := 0, 0
	for _, other := range p.nodes {
		if other != n && other.watchable() && now.Sub(other.concludedAt) <= doubtWindow {
			concluded++
			if other.answeredAt.Equal(other.concludedAt) {
				answered++
			}
		}
	}
	return vouch(answered, concluded)
}

// vouch says whether the network of this process works, judging by how many of the other nodes answered.
func vouch(answered, others int) bool { return answered > 0 && 2*answered >= others }

// evaluate decides of each unreachable node whether it is in doubt: whether three probes have found it
// silent while at least half of the others answered, since there were last fewer of them. What counts
// are the other nodes that have ever answered and were probed within doubtWindow; with none there is
// nobody who could say that the network works.
func (p *Prober) evaluate(now time.Time) {
	if len(p.suspects) == 0 {
		return
	}
	within := func(t time.Time) bool { return now.Sub(t) <= doubtWindow }
	concluded, answered := 0, 0
	for _, n := range p.nodes {
		if n.watchable() && within(n.concludedAt) {
			concluded++
			if within(n.answeredAt) {
				answered++
			}
		}
	}
	for n := range p.suspects {
		others := concluded
		if within(n.concludedAt) {
			others--
		}
		if before := n.observation(); !vouch(answered, others) {
			if n.vouched = 0; n.observation() != before {
				p.noteChange(n)
			}
		}
		inDoubt := n.vouched < silentLimit
		if n.state != Unreachable || inDoubt == n.inDoubt {
			continue
		}
		n.inDoubt = inDoubt
		p.noteChange(n)
		if inDoubt {
			suppressed.Inc()
		}
		klog.InfoS("Whether an unreachable node is in doubt has changed", "node", n.Node,
			"inDoubt", inDoubt, "others", others, "answered", answered)
	}
}
