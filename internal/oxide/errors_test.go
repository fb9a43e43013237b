// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

func TestErrorKindFollowsStatusAndCode(t *testing.T) {
	for _, tc := range []struct {
		status int
		code   string
		want   oxide.Kind
	}{
		{400, "", oxide.KindMalformed},
		{400, "InvalidRequest", oxide.KindRefused},
		{400, "InvalidValue", oxide.KindRefused},
		{400, "ObjectAlreadyExists", oxide.KindAlreadyExists},
		{400, "SomethingNew", oxide.KindRefused},
		{401, "Unauthorized", oxide.KindUnauthorized},
		{403, "Forbidden", oxide.KindForbidden},
		{404, "ObjectNotFound", oxide.KindNotFound},
		{404, "", oxide.KindNoSuchRoute},
		{404, "Not Found", oxide.KindNoSuchRoute},
		{409, "Conflict", oxide.KindRefused},
		{429, "", oxide.KindUnavailable},
		{429, "TooManyRequests", oxide.KindUnavailable},
		{500, "Internal", oxide.KindInternal},
		{502, "Internal", oxide.KindUnavailable},
		{503, "ServiceNotAvailable", oxide.KindUnavailable},
		{503, "", oxide.KindUnavailable},
		{504, "Internal", oxide.KindUnavailable},
		{507, "InsufficientCapacity", oxide.KindNoCapacity},
		// No answer of the API: nobody can say what was done.
		{301, "", oxide.KindBadResponse},
		{405, "", oxide.KindBadResponse},
		{408, "", oxide.KindBadResponse},
		{410, "Gone", oxide.KindBadResponse},
		{418, "ObjectNotFound", oxide.KindBadResponse},
		{501, "", oxide.KindBadResponse},
		{599, "ServiceNotAvailable", oxide.KindBadResponse},
	} {
		t.Run(fmt.Sprint(tc.status, " ", tc.code), func(t *testing.T) {
			t.Parallel()
			r := start(t, oxidesim.Config{})
			r.fault(oxidesim.Fault{
				Operation: "floating_ip_detach", Status: tc.status, ErrorCode: tc.code,
			})
			err := r.DetachFloatingIP(t.Context(), anID)
			wantKind(t, err, tc.want)
			e := err.(*oxide.Error) //nolint:errorlint // wantKind has seen to that
			if e.Status != tc.status || !oxide.ValidID(e.RequestID) {
				t.Errorf("status %d, request id %q", e.Status, e.RequestID)
			}
			if e.Operation != "detach the floating IP "+anID {
				t.Errorf("operation %q", e.Operation)
			}
		})
	}
}

// A 404 for the project is another thing than one for an object in it.
func TestNotFoundTellsProjectFromObject(t *testing.T) {
	r := start(t, oxidesim.Config{})
	if _, err := r.Identity(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.fault(oxidesim.Fault{Status: 404, ErrorCode: "ObjectNotFound"})
	wantOf := map[string]oxide.Kind{
		"project_view":                       oxide.KindProjectNotFound,
		"instance_list":                      oxide.KindProjectNotFound,
		"floating_ip_list":                   oxide.KindProjectNotFound,
		"external_subnet_list":               oxide.KindProjectNotFound,
		"instance_view":                      oxide.KindNotFound,
		"vpc_subnet_list_network_interfaces": oxide.KindNotFound,
		"instance_external_ip_list":          oxide.KindNotFound,
		"floating_ip_view":                   oxide.KindNotFound,
		"external_subnet_view":               oxide.KindNotFound,
		"subnet_pool_view":                   oxide.KindNotFound,
	}
	for operation, want := range wantOf {
		t.Run(operation, func(t *testing.T) {
			wantKind(t, reads[operation](t.Context(), r.Client), want)
		})
	}
}

const htmlPage = "<!doctype html>\n<title>Sign in</title>"

// Only what Oxide could have said is believed. Above all, nothing else counts as an empty list, as
// an object that is not there, or as a mutation that has succeeded.
func TestForeignAnswerIsABadResponse(t *testing.T) {
	for _, tc := range []struct {
		name        string
		status      int
		body        string
		contentType string
	}{
		{"HTML", 200, htmlPage, "text/html; charset=utf-8"},
		{"HTML that calls itself JSON", 200, htmlPage, ""},
		{"JSON of another content type", 200, `{"items": []}`, "text/html"},
		{"an unreadable content type", 200, `{"items": []}`, "; ;"},
		{"HTML with 400", 400, htmlPage, "text/html"},
		{"HTML with 404", 404, htmlPage, "text/html"},
		{"text with 404", 404, "404 page not found", "text/plain"},
		{"an empty object", 200, `{}`, ""},
		{"null", 200, `null`, ""},
		{"a list without object", 200, `[]`, ""},
		{"a string", 200, `"ok"`, ""},
		{"another object", 200, `{"status": "ok"}`, ""},
		{"a list that is null", 200, `{"items": null}`, ""},
		{"a list that is none", 200, `{"items": "none"}`, ""},
		{"an empty object in a list", 200, `{"items": [{}]}`, ""},
		{"an id that is none", 200, `{"id": 7, "silo_id": 7, "items": [{"id": 7}]}`, ""},
		{"cut off", 200, `{"id": "6a0f4a2c-52b1-4f8e`, ""},
	} {
		for operation, call := range reads {
			t.Run(tc.name+"/"+operation, func(t *testing.T) {
				t.Parallel()
				checkForeign(t, operation, call, oxidesim.Fault{
					Status: tc.status, Body: tc.body, ContentType: tc.contentType,
				})
			})
		}
		for operation, call := range mutations {
			if strings.HasSuffix(operation, "_delete") && tc.status == 200 && tc.contentType == "" {
				continue // its answer has no body that could be wrong
			}
			t.Run(tc.name+"/"+operation, func(t *testing.T) {
				t.Parallel()
				checkForeign(t, operation, call, oxidesim.Fault{
					Status: tc.status, Body: tc.body, ContentType: tc.contentType,
				})
			})
		}
	}
}

func checkForeign(
	t *testing.T, operation string, call func(context.Context, *oxide.Client) error,
	fault oxidesim.Fault,
) {
	r := start(t, oxidesim.Config{})
	if operation != "current_user_view" {
		if _, err := r.Identity(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	r.ResetCounters()
	fault.Operation = operation
	r.fault(fault)
	wantKind(t, call(t.Context(), r.Client), oxide.KindBadResponse)
	if n := r.Count(operation); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestWhatIsOfNoInstanceIsABadResponse(t *testing.T) {
	for _, tc := range []struct{ name, operation, body string }{
		{"external IP without a kind", "instance_external_ip_list", `{"items": [{}]}`},
		{"address of an external IP", "instance_external_ip_list",
			`{"items": [{"kind": "ephemeral", "ip": "192.0.2.256"}]}`},
		{"interface of nobody", "vpc_subnet_list_network_interfaces",
			`{"items": [{"id": "x", "ip_stack": {"type": "v8", "value": {}}}]}`},
		{"interfaces that are no list", "vpc_subnet_list_network_interfaces",
			`{"items": {"id": "x"}}`},
		{"no list of interfaces", "vpc_subnet_list_network_interfaces", `{"items": null}`},
		{"no list of external IPs", "instance_external_ip_list", `{}`},
		{"external subnet without a network", "external_subnet_view", `{"id": "x"}`},
		{"network of an external subnet", "external_subnet_list",
			`{"items": [{"id": "x", "subnet": "192.0.2.0/33"}]}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			checkForeign(t, tc.operation, reads[tc.operation],
				oxidesim.Fault{Status: 200, Body: tc.body})
		})
	}
}

func TestErrorTextIsOneShortLine(t *testing.T) {
	r := start(t, oxidesim.Config{})
	long := strings.Repeat("a word and é\r\n\tanother ", 500)
	for _, status := range []int{302, 400, 404, 409, 418, 500, 507} {
		for _, code := range []string{"", "InvalidRequest", "ObjectNotFound"} {
			id, err := r.AddFault(oxidesim.Fault{
				Operation: "floating_ip_create", Status: status, ErrorCode: code, Message: long,
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.CreateFloatingIP(t.Context(), strings.Repeat("n", 63), "",
				oxide.IPAllocator{DefaultPool4: true})
			if err == nil {
				t.Fatalf("no error for %d %s", status, code)
			}
			checkText(t, err)
			if !strings.HasPrefix(err.Error(), "could not create the floating IP nnn") {
				t.Errorf("does not begin with what was tried: %s", err)
			}
			r.RemoveFault(id)
		}
	}
}

// A debugging proxy may repeat what it was sent.
func TestErrorTextHoldsNoTokenThatTheServerRepeats(t *testing.T) {
	for name, body := range map[string]string{
		"message":   `{"error_code": "InvalidRequest", "message": "you sent TOKEN"}`,
		"long line": `{"message": "` + strings.Repeat("x", 285) + `TOKEN"}`,
		"address":   `{"id": "x", "ip": "TOKEN"}`,
		"time":      `{"id": "x", "ip": "192.0.2.1", "time_created": "TOKEN"}`,
		"no JSON":   `TOKEN`,
	} {
		for _, status := range []int{200, 400, 404} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				t.Parallel()
				host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					sent := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
					w.Header().Set("Content-Type", "application/json")
					w.Header().Set("X-Request-Id", sent)
					w.WriteHeader(status)
					_, _ = w.Write([]byte(strings.ReplaceAll(body, "TOKEN", sent)))
				}))
				client, _ := newClient(t, host)
				_, err := client.DescribeFloatingIP(t.Context(), anID, "new")
				if err == nil {
					t.Fatal("no error")
				}
				checkText(t, err)
			})
		}
	}
}

func TestErrorNamesTheRequest(t *testing.T) {
	r := start(t, oxidesim.Config{})
	_, err := r.InstanceByID(t.Context(), anID)
	wantKind(t, err, oxide.KindNotFound)
	want := fmt.Sprintf(`could not read instance %s: Oxide says not found: instance with id %q `+
		`(or the token has no role on it)`, anID, anID)
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

// Each kind has one remedy at most, apart from the cause, which preflight prints by itself; and a log
// has the request id besides, by which Oxide's operators find the request.
func TestAnErrorSaysItsCauseItsRemedyAndItsRequest(t *testing.T) {
	for kind := range oxide.KindEnded + 1 {
		err := &oxide.Error{
			Operation: "try it", Kind: kind, Status: http.StatusTeapot, Detail: "detail",
			Err: context.Canceled,
		}
		want := err.Cause()
		if remedy := err.Remedy(); remedy != "" {
			want += "; " + remedy
		}
		if err.Error() != want || !strings.HasPrefix(want, "could not try it: ") {
			t.Errorf("kind %d: %q, want %q", kind, err, want)
		}
		if got := fmt.Sprint(err.LogValue()); got != "[text="+want+"]" {
			t.Errorf("kind %d is logged as %s", kind, got)
		}
		err.RequestID = "req-1"
		if got := fmt.Sprint(err.LogValue()); got != "[text="+want+" request_id=req-1]" {
			t.Errorf("kind %d is logged as %s", kind, got)
		}
	}
}

// An old rack that cannot allocate is no full pool: more addresses in it would help nobody.
func TestAnOldRackIsUpdatedAndNoPoolExtended(t *testing.T) {
	err := &oxide.Error{Kind: oxide.KindNoCapacity, Status: http.StatusInsufficientStorage}
	if err.Remedy() != "" || !strings.Contains(err.Error(), "no capacity left (HTTP 507)") {
		t.Errorf("a full pool: %v", err)
	}
	err.OldRelease = true
	if err.Remedy() != "update the rack, or use another subnet pool" ||
		!strings.Contains(err.Error(), "racks before release 21") {
		t.Errorf("an old rack: %v", err)
	}
}

// What Oxide cannot do now is no wrong setting.
func TestWhatPassesIsWhatOxideSaysOfItself(t *testing.T) {
	for status, want := range map[int]bool{
		0: false, 400: false, 401: false, 404: false, 429: true, 500: true, 503: true, 507: true,
	} {
		if got := (&oxide.Error{Status: status}).Passing(); got != want {
			t.Errorf("HTTP %d: %v", status, got)
		}
	}
}
