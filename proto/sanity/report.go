// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// Outcome is how a case ended.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "ok"
	Failed  Outcome = "FAIL"
	Skipped Outcome = "skipped"
)

// Result is the outcome of one case.
type Result struct {
	Name     string
	Outcome  Outcome
	Contract []string

	// Why it was skipped.
	Why string

	// Failures are there if it failed.
	Failures []Failure
	Elapsed  time.Duration
}

// Report is the outcome of a run.
type Report struct {
	// Version and Revision are what the backend says of itself.
	Version  string
	Revision int32

	// Removed are the names of what an earlier run had left behind.
	Removed []string

	// Results are those of the cases that were run, in their order.
	Results []Result

	// Methods are the calls that were made, and Reasons those for which one of them or a load balancer
	// failed, sorted.
	Methods, Reasons []string

	// Interrupted: the context ended before all cases were run.
	Interrupted bool
	Elapsed     time.Duration
}

// Count is how many cases ended so.
func (r *Report) Count(outcome Outcome) int {
	n := 0
	for i := range r.Results {
		if r.Results[i].Outcome == outcome {
			n++
		}
	}
	return n
}

// Conforms reports whether no case failed, at least one passed, and all were run.
func (r *Report) Conforms() bool {
	return r.Count(Failed) == 0 && r.Count(Passed) > 0 && !r.Interrupted
}

// WriteText writes a result for people: one line, and further ones for what failed.
func (r *Result) WriteText(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%-7s  %-44s", r.Outcome, r.Name)
	switch r.Outcome {
	case Skipped:
		text.WriteString(" " + r.Why)
	default:
		fmt.Fprintf(&text, " %.2f s", r.Elapsed.Seconds())
	}
	var lines strings.Builder
	lines.WriteString(strings.TrimRight(text.String(), " ") + "\n")
	for _, failure := range r.Failures {
		fmt.Fprintf(&lines, "         %s\n           expected: %s\n           got:      %s\n", failure.What,
			failure.Expected, failure.Got)
	}
	if r.Outcome == Failed {
		for _, sentence := range r.Contract {
			lines.WriteString("           contract: " + sentence + "\n")
		}
	}
	_, err := io.WriteString(out, lines.String())
	return err
}

// Summary is the outcome in one line.
func (r *Report) Summary() string {
	text := fmt.Sprintf("%d cases: %d ok, %d failed, %d skipped; %d calls, %d reasons seen; %.1f s",
		len(r.Results), r.Count(Passed), r.Count(Failed), r.Count(Skipped), len(r.Methods), len(r.Reasons),
		r.Elapsed.Seconds())
	if r.Interrupted {
		text += "; interrupted"
	}
	return text
}

// The types below are the report as JSON.
type (
	jsonReport struct {
		Version     string       `json:"version"`
		Revision    int32        `json:"api_revision"`
		Passed      int          `json:"passed"`
		Failed      int          `json:"failed"`
		Skipped     int          `json:"skipped"`
		Interrupted bool         `json:"interrupted"`
		Seconds     float64      `json:"seconds"`
		Removed     []string     `json:"removed,omitempty"`
		Methods     []string     `json:"methods"`
		Reasons     []string     `json:"reasons"`
		Cases       []jsonResult `json:"cases"`
	}
	jsonResult struct {
		Name     string    `json:"name"`
		Outcome  string    `json:"outcome"`
		Why      string    `json:"why,omitempty"`
		Seconds  float64   `json:"seconds"`
		Failures []Failure `json:"failures,omitempty"`
		Contract []string  `json:"contract"`
	}
)

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(out io.Writer) error {
	object := jsonReport{
		Version: r.Version, Revision: r.Revision, Passed: r.Count(Passed), Failed: r.Count(Failed),
		Skipped: r.Count(Skipped), Interrupted: r.Interrupted, Seconds: r.Elapsed.Seconds(),
		Removed: r.Removed, Methods: r.Methods, Reasons: r.Reasons, Cases: []jsonResult{},
	}
	for i := range r.Results {
		one := &r.Results[i]
		object.Cases = append(object.Cases, jsonResult{
			Name: one.Name, Outcome: strings.ToLower(string(one.Outcome)), Why: one.Why,
			Seconds: one.Elapsed.Seconds(), Failures: one.Failures, Contract: one.Contract,
		})
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(object)
}

// The types below are the report as JUnit has it.
type (
	junitSuite struct {
		XMLName  xml.Name    `xml:"testsuite"`
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitMessage `xml:"failure,omitempty"`
		Skipped *junitMessage `xml:"skipped,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes the report as JUnit's XML.
func (r *Report) WriteJUnit(out io.Writer) error {
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
	suite := junitSuite{
		Name: "oxide.backend.v1", Tests: len(r.Results), Failures: r.Count(Failed),
		Skipped: r.Count(Skipped), Time: seconds(r.Elapsed),
	}
	for i := range r.Results {
		one := &r.Results[i]
		area := (&Case{Name: one.Name}).area()
		entry := junitCase{
			Class: "oxide.backend.v1." + area, Name: one.Name, Time: seconds(one.Elapsed),
		}
		switch one.Outcome {
		case Failed:
			var text strings.Builder
			for _, f := range one.Failures {
				fmt.Fprintf(&text, "%s\nexpected: %s\ngot: %s\n", f.What, f.Expected, f.Got)
			}
			for _, sentence := range one.Contract {
				text.WriteString("contract: " + sentence + "\n")
			}
			entry.Failure = &junitMessage{Message: one.Failures[0].What, Text: text.String()}
		case Skipped:
			entry.Skipped = &junitMessage{Message: one.Why}
		case Passed:
		}
		suite.Cases = append(suite.Cases, entry)
	}
	if _, err := io.WriteString(out, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(out)
	encoder.Indent("", "  ")
	if err := encoder.Encode(suite); err != nil {
		return err
	}
	_, err := io.WriteString(out, "\n")
	return err
}
