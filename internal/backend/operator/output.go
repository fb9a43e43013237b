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

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// printJSON prints a message of the API. Every field is there, but for messages that are absent.
func printJSON(w io.Writer, message proto.Message) error {
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
	if err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	// The space that protojson leaves is not the same in all of its builds.
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	out.WriteByte('\n')
	_, err = out.WriteTo(w)
	return err
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
