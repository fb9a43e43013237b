// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// oxqlQuery is a query of the rack's query language, as far as it is known here: get, then
// filters and last.
type oxqlQuery struct {
	name    string
	filters []oxqlFilter
	last    int
}

// oxqlFilter says of a series' fields whether it is wanted; an unknown field is an error.
type oxqlFilter func(fields map[string]fieldJSON) (bool, error)

var (
	oxqlGet   = regexp.MustCompile(`^get\s+([a-z_]+:[a-z_]+)$`)
	oxqlLast  = regexp.MustCompile(`^last\s+([1-9][0-9]{0,3})$`)
	oxqlToken = regexp.MustCompile(
		`^\s*(\|\||&&|==|!=|<=|>=|[<>!()]|"[^"]*"|@[^\s&|()]*(?:\(\))?` +
			`(?:\s*[-+]\s*\d+[a-z]+)?|\w+)`)
)

func parseOxql(text string) (oxqlQuery, error) {
	var q oxqlQuery
	for n, part := range splitPipes(text) {
		part = strings.TrimSpace(part)
		get, last := oxqlGet.FindStringSubmatch(part), oxqlLast.FindStringSubmatch(part)
		filter, isFilter := strings.CutPrefix(part, "filter ")
		switch {
		case n == 0 && get != nil:
			q.name = get[1]
		case n > 0 && last != nil:
			q.last, _ = strconv.Atoi(last[1]) // digits, by the expression
		case n > 0 && isFilter:
			f, err := parseFilter(filter)
			if err != nil {
				return q, err
			}
			q.filters = append(q.filters, f)
		default:
			return q, invalidRequest("cannot parse the query at %q", part)
		}
	}
	return q, nil
}

// splitPipes cuts a query at each single pipe outside of quotes.
func splitPipes(text string) []string {
	var parts []string
	quoted, start := false, 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case text[i] != '|' || quoted:
		case i+1 < len(text) && text[i+1] == '|':
			i++
		default:
			parts, start = append(parts, text[start:i]), i+1
		}
	}
	return append(parts, text[start:])
}

func (q oxqlQuery) accepts(fields map[string]fieldJSON) (bool, error) {
	for _, f := range q.filters {
		if ok, err := f(fields); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// oxqlParser reads a filter: comparisons joined by &&, || (which binds less), ! and
// parentheses.
type oxqlParser struct {
	text   string
	tokens []string
}

func parseFilter(text string) (oxqlFilter, error) {
	p := oxqlParser{text: text}
	for rest := text; strings.TrimSpace(rest) != ""; {
		m := oxqlToken.FindStringSubmatch(rest)
		if m == nil {
			return nil, p.wrong()
		}
		p.tokens = append(p.tokens, m[1])
		rest = rest[len(m[0]):]
	}
	f, err := p.either()
	if err == nil && len(p.tokens) > 0 {
		err = p.wrong()
	}
	return f, err
}

func (p *oxqlParser) wrong() error { return invalidRequest("cannot parse the filter %q", p.text) }

func (p *oxqlParser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *oxqlParser) next() string {
	t := p.peek()
	if t != "" {
		p.tokens = p.tokens[1:]
	}
	return t
}

func (p *oxqlParser) either() (oxqlFilter, error) { return p.joined("||", true, p.both) }

func (p *oxqlParser) both() (oxqlFilter, error) { return p.joined("&&", false, p.one) }

// joined reads operands with an operator between them; the first operand that is decisive
// settles the whole.
func (p *oxqlParser) joined(
	operator string, decisive bool, operand func() (oxqlFilter, error),
) (oxqlFilter, error) {
	first, err := operand()
	all := []oxqlFilter{first}
	for err == nil && p.peek() == operator {
		p.next()
		var f oxqlFilter
		f, err = operand()
		all = append(all, f)
	}
	return func(fields map[string]fieldJSON) (bool, error) {
		for _, f := range all {
			if ok, err := f(fields); ok == decisive || err != nil {
				return ok, err
			}
		}
		return !decisive, nil
	}, err
}

func (p *oxqlParser) one() (oxqlFilter, error) {
	switch t := p.next(); t {
	case "!":
		f, err := p.one()
		return func(fields map[string]fieldJSON) (bool, error) {
			ok, err := f(fields)
			return !ok, err
		}, err
	case "(":
		f, err := p.either()
		if err == nil && p.next() != ")" {
			err = p.wrong()
		}
		return f, err
	default:
		return p.comparison(t, p.next(), p.next())
	}
}

// comparison compares a field with a value, for equality; whatever is asked of the time is
// true, for what the simulator makes up is new.
func (p *oxqlParser) comparison(field, operator, value string) (oxqlFilter, error) {
	isTime, isField := field == "timestamp", regexp.MustCompile(`^[a-z]\w*$`).MatchString(field)
	switch {
	case isTime && strings.HasPrefix(value, "@") && strings.Trim(operator, "<=>") == "":
		return func(map[string]fieldJSON) (bool, error) { return true, nil }, nil
	case isTime || !isField || operator != "==" && operator != "!=":
		return nil, p.wrong()
	case !regexp.MustCompile(`^("[^"]*"|\d+)$`).MatchString(value):
		return nil, p.wrong()
	}
	value = strings.Trim(value, `"`)
	return func(fields map[string]fieldJSON) (bool, error) {
		have, ok := fields[field]
		if !ok {
			return false, invalidRequest("the filter refers to %q, which is no field", field)
		}
		return (fmt.Sprint(have.Value) == value) == (operator == "=="), nil
	}, nil
}
