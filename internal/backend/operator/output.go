// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// The forms in which a command prints what it has found.
const (
	formTable = "table"
	formJSON  = "json"
	formYAML  = "yaml"
)

var forms = []string{formTable, formJSON, formYAML}

// print prints something in the form that the user asks for. It is a message of the API, or a struct with
// messages that jsonOf has made; the table for people is the caller's.
func (o *options) print(w io.Writer, found any, table func(io.Writer) error) error {
	if o.output == formTable {
		return table(w)
	}
	text, err := indented(found)
	if err == nil && o.output == formYAML {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return fmt.Errorf("print %s: %w", o.output, err)
	}
	_, err = w.Write(text)
	return err
}

// preview is where something is shown to people before it is done: not where programs read the result.
func (o *options) preview(cmd *cobra.Command) io.Writer {
	if o.output == formTable {
		return cmd.OutOrStdout()
	}
	return cmd.ErrOrStderr()
}

// indented returns JSON of several lines.
func indented(found any) ([]byte, error) {
	if message, ok := found.(proto.Message); ok {
		found = jsonOf(message)
	}
	text, err := json.Marshal(found)
	if err != nil {
		return nil, err
	}
	// The space that protojson leaves is not the same in all of its builds.
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// inJSON is a message of the API in JSON. Every field is there, but for messages that are absent.
type inJSON struct{ proto.Message }

func jsonOf(message proto.Message) inJSON { return inJSON{message} }

// jsonOfAll returns a list of messages, which is no null if it is empty.
func jsonOfAll[M proto.Message](messages []M) []inJSON {
	all := make([]inJSON, len(messages))
	for i, message := range messages {
		all[i] = jsonOf(message)
	}
	return all
}

// MarshalJSON implements json.Marshaler.
func (m inJSON) MarshalJSON() ([]byte, error) {
	return protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m.Message)
}

// printTable prints rows under a header, without columns that are empty in all rows.
func printTable(w io.Writer, header []string, rows [][]string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var shown []int
	for column := range header {
		for _, row := range rows {
			if row[column] != "" {
				shown = append(shown, column)
				break
			}
		}
	}
	for _, row := range append([][]string{header}, rows...) {
		cells := make([]string, len(shown))
		for i, column := range shown {
			cells[i] = row[column]
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	return table.Flush()
}

// maxListed is how many things a cell of a table lists.
const maxListed = 4

// shortList lists the first of many things.
func shortList(things []string) string {
	if more := len(things) - maxListed; more > 1 {
		return fmt.Sprintf("%s and %d more", strings.Join(things[:maxListed], ","), more)
	}
	return strings.Join(things, ",")
}

// counted is a number of things.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
