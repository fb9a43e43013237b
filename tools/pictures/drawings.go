// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

// containers is the picture of the two programs and what is between them.
func containers() *picture {
	p := newPicture(880, 270, "The two containers",
		"ccm-shim talks to the Kubernetes API, oxide-backend to the Oxide API. They are two containers of "+
			"one pod, share one gRPC API over a unix socket, and each has the credential of its own side only.")
	const middle = 120 // the height at which all are joined

	p.box("box", 20, middle-40, 140, 80)
	p.lines("name", 90, middle-5, "kube-apiserver")
	p.lines("faint", 90, middle+16, "Services, Nodes")

	p.box("group", 222, 30, 436, 186)
	p.text("faint", 236, 50, "one pod, in the network of its node")

	p.box("box kubernetes", 240, middle-48, 150, 96)
	p.lines("name", 315, middle-18, "ccm-shim")
	p.lines("faint", 315, middle+4, "knows Kubernetes,", "translates")
	p.box("box oxide", 490, middle-48, 150, 96)
	p.lines("name", 565, middle-18, "oxide-backend")
	p.lines("faint", 565, middle+4, "knows Oxide,", "decides")
	p.lines("faint", 315, 190, "has the Kubernetes", "token alone")
	p.lines("faint", 565, 190, "has the Oxide", "token alone")

	p.box("box", 720, middle-40, 140, 80)
	p.lines("name", 790, middle-5, "Oxide API")
	p.lines("faint", 790, middle+16, "instances, addresses")

	p.arrow("both", 162, middle, 236, middle)
	p.lines("faint", 192, middle-26, "watch,", "patch")
	p.arrow("both", 394, middle, 486, middle)
	p.lines("faint", 440, middle-10, "gRPC")
	p.lines("faint", 440, middle+20, "unix socket")
	p.arrow("", 644, middle, 716, middle)
	p.lines("faint", 690, middle-10, "HTTPS")

	p.text("faint", 20, 250, "Services and Nodes become desired state and observations; "+
		"the answers become statuses, events and labels.")
	return p
}

// failover is the picture of an address that leaves a node which has failed.
func failover() *picture {
	const (
		width   = 215
		address = "198.51.100.9"
		first   = "172.30.0.11"
		second  = "172.30.0.12"
	)
	p := newPicture(4*width+20, 350, "A failover",
		"An address is served by worker-1. The node falls silent: the status of the Service names worker-2 "+
			"as well. Then Oxide detaches the address from worker-1 and attaches it to worker-2, and at "+
			"last the status names worker-2 alone.")
	panels := []struct {
		title, action string
		silent        bool
		moved         bool
		status        []string
	}{
		{"1  worker-1 serves", "", false, false, []string{address, first}},
		{"2  worker-1 is silent", "publish the next place", true, false, []string{address, first, second}},
		{"3  worker-2 serves", "detach, then attach", true, true, []string{address, first, second}},
		{"4  done", "publish that place alone", true, true, []string{address, second}},
	}
	for i, panel := range panels {
		x := 20 + i*width
		left, right := x+45, x+145
		p.text("name", x, 32, panel.title)
		p.text("faint", x, 52, panel.action)
		p.lines("code", x+95, 86, address)

		class, arrow := "box oxide", ""
		if panel.silent {
			class, arrow = "box bad", "lost"
		}
		to := left
		if panel.moved {
			to, arrow = right, ""
		}
		p.arrow(arrow, x+95, 94, to, 144)
		p.box(class, x, 148, 90, 58)
		p.lines("name", left, 172, "worker-1")
		p.lines("code", left, 192, first)
		class = "box"
		if panel.moved {
			class = "box oxide"
		}
		p.box(class, x+100, 148, 90, 58)
		p.lines("name", right, 172, "worker-2")
		p.lines("code", right, 192, second)

		p.text("faint", x, 236, "status of the Service:")
		for n, line := range panel.status {
			p.text("code", x+12, 258+18*n, line)
		}
	}
	p.text("faint", 20, 332, "An address arrives at a node only after the status names that node: "+
		"before, its Service proxy would refuse the packets.")
	return p
}
