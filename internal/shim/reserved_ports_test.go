// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// isReserved reports whether a port is in one of the ranges, and what the first of them says of it.
func isReserved(reserved []*backendv1.ReservedPorts, port int32) (purpose string, is bool) {
	for _, r := range reserved {
		if r.GetFirstPort() <= port && port <= max(r.GetFirstPort(), r.GetLastPort()) {
			return r.GetPurpose(), true
		}
	}
	return "", false
}

func TestThedefaultReservedPorts(t *testing.T) {
	reserved, err := parseReservedPorts(defaultReservedPorts)
	if err != nil {
		t.Fatal(err)
	}
	want := map[int32]string{
		22: "SSH", 2379: "etcd", 2380: "etcd", 6443: "the API server", 10250: "the kubelet",
		10256: "kube-proxy", 10257: "kube-controller-manager",
		10258: "the cloud controller manager", 10259: "kube-scheduler",
	}
	got := make(map[int32]string)
	for port := int32(1); port <= maxPort; port++ {
		if purpose, is := isReserved(reserved, port); is {
			got[port] = purpose
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reserved (-want +got):\n%s", diff)
	}
}

func TestListsOfPorts(t *testing.T) {
	for _, tt := range []struct {
		name, list string
		// in and out are ports that are reserved and that are not; an error has wantErr in it.
		in, out []int32
		wantErr string
	}{
		{"nothing", "", nil, []int32{1, 22, 65535}, ""},
		{"commas and spaces", " , 80 ,, 443 ", []int32{80, 443}, []int32{81}, ""},
		{"one port", "8080", []int32{8080}, []int32{8079, 8081}, ""},
		{"a range", "8000-8002", []int32{8000, 8001, 8002}, []int32{7999, 8003}, ""},
		{"a range of one", "8000-8000", []int32{8000}, []int32{8001}, ""},
		{"everything", "1-65535", []int32{1, 22, 65535}, nil, ""},
		{"ranges that overlap", "80-90,85-95", []int32{80, 95}, []int32{96}, ""},
		{"no port", "ssh", nil, nil, `"ssh"`},
		{"zero", "22,0", nil, nil, `"0"`},
		{"too high", "65536", nil, nil, `"65536"`},
		{"far too high", "99999999999999999999", nil, nil, "99999999999999999999"},
		{"negative", "-1", nil, nil, `"-1"`},
		{"signed", "+22", nil, nil, `"+22"`},
		{"backwards", "90-80", nil, nil, `"90-80"`},
		{"a range without an end", "80-", nil, nil, `"80-"`},
		{"a range of three", "80-85-90", nil, nil, `"80-85-90"`},
		{"with a protocol", "80/TCP", nil, nil, `"80/TCP"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reserved, err := parseReservedPorts(tt.list)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) ||
					!strings.Contains(err.Error(), "2379-2380") {
					t.Errorf("the error is %v, want %s and an example in it", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, port := range tt.in {
				if _, is := isReserved(reserved, port); !is {
					t.Errorf("%d is not reserved", port)
				}
			}
			for _, port := range tt.out {
				if _, is := isReserved(reserved, port); is {
					t.Errorf("%d is reserved", port)
				}
			}
		})
	}
}
