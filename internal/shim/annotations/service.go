// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"errors"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// maxQuoted is how much of what a user wrote is quoted.
const maxQuoted = 100

// Value returns what an annotation of a Service says; empty if it is not there.
func Value(service *v1.Service, annotation string) string {
	return strings.TrimSpace(service.Annotations[annotation])
}

// mistake says what is wrong with an annotation.
func mistake(annotation, format string, args ...any) error {
	return fmt.Errorf("the annotation %s %s", annotation, fmt.Sprintf(format, args...))
}

// quoted quotes the beginning of what a user wrote.
func quoted(text string) string { return fmt.Sprintf("%.*q", maxQuoted, text) }

// OneLine joins errors in one line; nil if there are none.
func OneLine(errs ...error) error {
	if err := errors.Join(errs...); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}

// Retain reports whether the address of a Service is to be kept when it goes; true where that is
// not clear.
func Retain(service *v1.Service) (bool, error) {
	switch text := Value(service, RetainAddress); text {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return true, mistake(RetainAddress, "says %s: use true or false", quoted(text))
	}
}

// Selector returns which Nodes may carry the address of a Service; nil: all.
func Selector(service *v1.Service) (labels.Selector, error) {
	text := Value(service, NodeSelector)
	if text == "" {
		return nil, nil
	}
	selector, err := labels.Parse(text)
	if err != nil {
		return nil, mistake(NodeSelector, "says %s, which is not a label selector such as "+
			"\"pool=edge,zone in (a,b)\": %s", quoted(text), strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return selector, nil
}
