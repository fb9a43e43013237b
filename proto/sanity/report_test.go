// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func dialNothing(context.Context) (net.Conn, error) { return nil, errors.New("nothing is there") }

var example = Report{
	Version: "v1.2.3", Revision: 7, Elapsed: 2 * time.Second, Methods: []string{"/a/B"},
	Reasons: []string{"OXIDE_REFUSED"},
	Results: []Result{
		{Name: "area/good", Outcome: Passed, Elapsed: time.Second, Contract: []string{"It works."}},
		{Name: "area/bad", Outcome: Failed, Contract: []string{"It works, too."}, Failures: []Failure{
			{What: "the id", Expected: "a <b>", Got: "nothing"},
		}},
		{Name: "area/absent", Outcome: Skipped, Why: "needs an instance"},
	},
}

func TestAReportAsText(t *testing.T) {
	var out bytes.Buffer
	for i := range example.Results {
		if err := example.Results[i].WriteText(&out); err != nil {
			t.Fatal(err)
		}
	}
	want := `ok       area/good                                    1.00 s
FAIL     area/bad                                     0.00 s
         the id
           expected: a <b>
           got:      nothing
           contract: It works, too.
skipped  area/absent                                  needs an instance
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	summary := example.Summary()
	if summary != "3 cases: 1 ok, 1 failed, 1 skipped; 1 calls, 1 reasons seen; 2.0 s" {
		t.Error(summary)
	}
	if example.Conforms() {
		t.Error("a report with a failure conforms")
	}
}

func TestAReportAsJSONAndJUnit(t *testing.T) {
	var out bytes.Buffer
	if err := example.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var object struct {
		Failed int `json:"failed"`
		Cases  []struct {
			Name, Outcome, Why string
			Failures           []Failure
		}
	}
	if err := json.Unmarshal(out.Bytes(), &object); err != nil {
		t.Fatal(err)
	}
	if object.Failed != 1 || len(object.Cases) != 3 || object.Cases[1].Outcome != "fail" ||
		object.Cases[1].Failures[0].Expected != "a <b>" || object.Cases[2].Why != "needs an instance" {
		t.Errorf("%+v", object)
	}
	out.Reset()
	if err := example.WriteJUnit(&out); err != nil {
		t.Fatal(err)
	}
	var suite junitSuite
	if err := xml.Unmarshal(out.Bytes(), &suite); err != nil {
		t.Fatal(err)
	}
	if suite.Tests != 3 || suite.Failures != 1 || suite.Skipped != 1 || suite.Cases[0].Failure != nil ||
		suite.Cases[1].Class != "oxide.backend.v1.area" || suite.Cases[2].Skipped == nil ||
		!strings.Contains(suite.Cases[1].Failure.Text, "contract: It works, too.") {
		t.Errorf("%+v\n%s", suite, out.String())
	}
}

// Promise: a run in which nothing passed, or that was interrupted, is no proof.
func TestWhatConforms(t *testing.T) {
	passed := []Result{{Outcome: Passed}}
	for what, tc := range map[string]struct {
		report Report
		want   bool
	}{
		"all passed":   {Report{Results: passed}, true},
		"nothing ran":  {Report{}, false},
		"interrupted":  {Report{Results: passed, Interrupted: true}, false},
		"skipped only": {Report{Results: []Result{{Outcome: Skipped}}}, false},
		"one failed":   {Report{Results: append(passed, Result{Outcome: Failed})}, false},
	} {
		if got := tc.report.Conforms(); got != tc.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}

func made(code codes.Code, message string, details ...proto.Message) error {
	st := &spb.Status{Code: int32(code), Message: message}
	for _, detail := range details {
		packed, err := anypb.New(detail)
		if err != nil {
			panic(err)
		}
		st.Details = append(st.Details, packed)
	}
	return status.FromProto(st).Err()
}

// Promise: each error is held to the form that the contract gives all errors.
func TestTheFormOfErrors(t *testing.T) {
	info := &errdetails.ErrorInfo{Domain: errorDomain, Reason: "OXIDE_UNAVAILABLE"}
	retry := &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}
	for what, tc := range map[string]struct {
		err      error
		failures int
	}{
		"as it should be":   {made(codes.Unavailable, "later", info, retry), 0},
		"no error":          {nil, 1},
		"no RetryInfo":      {made(codes.Unavailable, "later", info), 1},
		"no ErrorInfo":      {made(codes.Internal, "later", retry), 2},
		"two of them":       {made(codes.Unavailable, "later", info, info, retry), 1},
		"another domain":    {made(codes.Unavailable, "later", &errdetails.ErrorInfo{Reason: "OXIDE_UNAVAILABLE"}, retry), 1},
		"no message":        {made(codes.Unavailable, "", info, retry), 1},
		"two lines":         {made(codes.Unavailable, "a\nb", info, retry), 1},
		"another code":      {made(codes.Internal, "later", info, retry), 1},
		"of this transport": {made(codes.Unavailable, "connection refused"), 1},
	} {
		c := &checker{}
		c.refused("it", tc.err, codes.Unavailable, backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE)
		if len(c.failures) != tc.failures {
			t.Errorf("%s: %+v", what, c.failures)
		}
	}
}

// Promise: what no case can cope with is a failure, and what the case made is removed all the same.
func TestAPanicIsAFailure(t *testing.T) {
	c := &checker{world: &world{}}
	undone := false
	c.do(t.Context(), func(context.Context, *checker) {
		c.cleanup(func(context.Context) { undone = true })
		var state *backendv1.LoadBalancerState
		_ = state.GetAddresses()[0]
	})
	c.undo(t.Context(), false)
	if len(c.failures) != 1 || !strings.Contains(c.failures[0].Got, "index out of range") || !undone {
		t.Errorf("%+v, undone: %t", c.failures, undone)
	}
}

func TestReversedUUIDs(t *testing.T) {
	if got := reversed("00112233-4455-6677-8899-aabbccddeeff"); got != "33221100-5544-7766-8899-aabbccddeeff" {
		t.Error(got)
	}
}
