// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// text is a schema as it is written.
func text(t *testing.T, schema object) string {
	t.Helper()
	out, err := json.Marshal(schema)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestKindsOfKubernetesAreClosedAndSayWhatTheyAre(t *testing.T) {
	all, err := fromOpenAPI([]byte(`{"definitions": {
		"a.Pod": {"description": "A pod.", "type": "object", "required": ["spec"],
			"properties": {"spec": {"$ref": "#/definitions/a.Spec"}, "apiVersion": {"type": "string"}},
			"x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}]},
		"a.Role": {"properties": {"labels": {"type": "object", "additionalProperties": {"type": "string"}}},
			"x-kubernetes-group-version-kind": [{"group": "rbac.x.io", "version": "v1", "kind": "Role"}]},
		"a.Spec": {"properties": {"port": {"type": "string", "format": "int-or-string"}}},
		"a.Options": {"properties": {}, "x-kubernetes-group-version-kind": [
			{"group": "", "version": "v1", "kind": "Options"}, {"group": "b", "version": "v1", "kind": "Options"}]}
	}}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"pod-v1.json":       `{"$ref":"_definitions.json#/definitions/a.Pod"}`,
		"role-rbac-v1.json": `{"$ref":"_definitions.json#/definitions/a.Role"}`,
	} {
		if diff := cmp.Diff(want, text(t, all[name])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if len(all) != 3 {
		t.Errorf("%d schemas, want 3: two kinds, and what they share", len(all))
	}
	types := all[shared]["definitions"].(object)
	for name, want := range map[string]string{
		"a.Pod": `{"additionalProperties":false,"properties":{"apiVersion":{"enum":["v1"]},` +
			`"kind":{"enum":["Pod"]},"spec":{"$ref":"#/definitions/a.Spec"}},` +
			`"required":["spec","apiVersion","kind"],"type":"object"}`,
		"a.Spec": `{"additionalProperties":false,"properties":{"port":{"type":["integer","string"]}}}`,
	} {
		if diff := cmp.Diff(want, text(t, types[name].(object))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestKindsThatAreDefinedAreClosedButWhereTheyAreOpen(t *testing.T) {
	all, err := fromDefinition([]byte(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
spec:
  group: monitoring.x.io
  names: {kind: Rule}
  versions:
    - name: v1
      schema:
        openAPIV3Schema:
          type: object
          required: [spec]
          properties:
            spec:
              type: object
              properties:
                count: {anyOf: [{type: integer}, {type: string}], x-kubernetes-int-or-string: true}
                rest: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {a: {type: string}}}
                list: {type: array, items: {type: object, properties: {b: {type: string}}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"additionalProperties":false,"properties":{"apiVersion":{"enum":["monitoring.x.io/v1"]},` +
		`"kind":{"enum":["Rule"]},"spec":{"additionalProperties":false,"properties":{` +
		`"count":{"type":["integer","string"]},` +
		`"list":{"items":{"additionalProperties":false,"properties":{"b":{"type":"string"}},"type":"object"},` +
		`"type":"array"},"rest":{"properties":{"a":{"type":"string"}},"type":"object"}},"type":"object"}},` +
		`"required":["spec","apiVersion","kind"],"type":"object"}`
	if diff := cmp.Diff(want, text(t, all["rule-monitoring-v1.json"])); diff != "" {
		t.Errorf("schema (-want +got):\n%s", diff)
	}
}

func TestWhatHoldsNoKindIsRefused(t *testing.T) {
	for _, document := range []string{`{}`, `{"definitions": {}}`, `[`} {
		if all, err := fromOpenAPI([]byte(document)); err == nil {
			t.Errorf("%s: %v", document, all)
		}
		if all, err := fromDefinition([]byte(document)); err == nil {
			t.Errorf("%s: %v", document, all)
		}
	}
	if _, err := fromDefinition([]byte("spec: {versions: [{name: v1}]}")); err == nil {
		t.Error("a version without a schema is taken")
	}
}
