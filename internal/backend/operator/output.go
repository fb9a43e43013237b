// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"
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

// print prints something in the form that the user asks for. It is a message of the API, or a struct
// with messages that jsonOf has made; the table for people is the caller's.
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

// printTable prints rows under a header, without columns that are empty in all rows. On a terminal
// that is too narrow for that it prints each row by itself, a line for each cell.
func printTable(w io.Writer, header []string, rows [][]string) error {
	var shown []int
	for column := range header {
		if slices.ContainsFunc(rows, func(row []string) bool { return row[column] != "" }) {
			shown = append(shown, column)
		}
	}
	if width := terminalWidth(w); width > 0 && widthOf(shown, header, rows) > width {
		return printRows(w, shown, header, rows)
	}
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		cells := make([]string, len(shown))
		for i, column := range shown {
			cells[i] = row[column]
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for line := range bytes.Lines(out.Bytes()) {
		if _, err := w.Write(append(bytes.TrimRight(line, " \n"), '\n')); err != nil {
			return err
		}
	}
	return nil
}

// leastForLast is the width that is enough for the last column, whose cells may be sentences: the
// terminal breaks their lines.
const leastForLast = 30

// widthOf returns how wide a table is up to where its last column may break.
func widthOf(shown []int, header []string, rows [][]string) int {
	sum := 0
	for i, column := range shown {
		widest := utf8.RuneCountInString(header[column])
		for _, row := range rows {
			widest = max(widest, utf8.RuneCountInString(row[column]))
		}
		if i == len(shown)-1 {
			return sum + min(widest, leastForLast)
		}
		sum += widest + 2
	}
	return sum
}

// printRows prints each row by itself.
func printRows(w io.Writer, shown []int, header []string, rows [][]string) error {
	widest := 0
	for _, column := range shown {
		widest = max(widest, len(header[column]))
	}
	var out bytes.Buffer
	for i, row := range rows {
		if i > 0 {
			out.WriteByte('\n')
		}
		for _, column := range shown {
			if row[column] != "" {
				fmt.Fprintf(&out, "%-*s  %s\n", widest, header[column], row[column])
			}
		}
	}
	_, err := out.WriteTo(w)
	return err
}

// terminalWidth returns how many columns a terminal has; 0: it is none.
func terminalWidth(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
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

// shortened cuts a text that is too long for a cell.
func shortened(text string) string {
	const most = 200
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

// counted is a number of things.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
