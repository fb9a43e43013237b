// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

type object = map[string]any

// shared is the file with the types of Kubernetes, to which its kinds refer.
const shared = "_definitions.json"

// fromOpenAPI returns the schemas of the kinds in an OpenAPI document, version 2, by their file names.
func fromOpenAPI(text []byte) (map[string]object, error) {
	var document struct {
		Definitions map[string]object `json:"definitions"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	types, all := object{}, map[string]object{}
	for name, definition := range document.Definitions {
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		// Several kinds share what they all have, as deletion options: they are no objects.
		if len(kinds) == 1 {
			kind, _ := kinds[0].(object)
			group, version, of := str(kind["group"]), str(kind["version"]), str(kind["kind"])
			all[fileName(group, version, of)] = object{"$ref": shared + "#/definitions/" + name}
			restrict(definition, group, version, of)
		}
		types[name] = closed(definition)
	}
	if len(all) == 0 {
		return nil, errors.New("it has no kinds")
	}
	types["io.k8s.apimachinery.pkg.api.resource.Quantity"] = object{"type": []string{"string", "number"}}
	all[shared] = object{"definitions": types}
	return all, nil
}

// fromDefinition returns the schemas of the versions of a CustomResourceDefinition, by their file names.
func fromDefinition(text []byte) (map[string]object, error) {
	var definition struct {
		Spec struct {
			Group    string                `json:"group"`
			Names    struct{ Kind string } `json:"names"`
			Versions []struct {
				Name   string `json:"name"`
				Schema struct {
					OpenAPIV3Schema object `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &definition); err != nil {
		return nil, err
	}
	all := map[string]object{}
	for _, version := range definition.Spec.Versions {
		schema := version.Schema.OpenAPIV3Schema
		if schema == nil {
			return nil, fmt.Errorf("the version %s has no schema", version.Name)
		}
		restrict(schema, definition.Spec.Group, version.Name, definition.Spec.Names.Kind)
		all[fileName(definition.Spec.Group, version.Name, definition.Spec.Names.Kind)] = closed(schema)
	}
	if len(all) == 0 {
		return nil, errors.New("it defines no kind")
	}
	return all, nil
}

// fileName is that under which kubeconform looks for a kind: the kind, the first part of the group, and
// the version.
func fileName(group, version, kind string) string {
	parts := []string{kind}
	if group != "" {
		first, _, _ := strings.Cut(group, ".")
		parts = append(parts, first)
	}
	return strings.ToLower(strings.Join(append(parts, version), "-")) + ".json"
}

// restrict requires of an object that it says which kind it is.
func restrict(schema object, group, version, kind string) {
	apiVersion := strings.TrimPrefix(group+"/"+version, "/")
	properties, _ := schema["properties"].(object)
	if properties == nil {
		return
	}
	properties["apiVersion"] = object{"enum": []string{apiVersion}}
	properties["kind"] = object{"enum": []string{kind}}
	required, _ := schema["required"].([]any)
	schema["required"] = append(required, "apiVersion", "kind")
}

// closed returns a schema for a validator that knows nothing of Kubernetes' extensions, which refuses
// fields that are not among the properties. Descriptions are left out.
func closed(schema object) object {
	out := object{}
	for key, value := range schema {
		if key == "description" || strings.HasPrefix(key, "x-kubernetes-") {
			continue
		}
		out[key] = closedValue(key, value)
	}
	if schema["format"] == "int-or-string" || schema["x-kubernetes-int-or-string"] == true {
		for _, key := range []string{"format", "type", "anyOf"} {
			delete(out, key)
		}
		out["type"] = []string{"integer", "string"}
	}
	_, isMap := schema["additionalProperties"]
	preserves := schema["x-kubernetes-preserve-unknown-fields"] == true
	if _, ok := schema["properties"]; ok && !isMap && !preserves {
		out["additionalProperties"] = false
	}
	return out
}

func closedValue(key string, value any) any {
	v, ok := value.(object)
	if !ok {
		return value
	}
	switch key {
	case "properties":
		out := object{}
		for name, property := range v {
			if inner, ok := property.(object); ok {
				out[name] = closed(inner)
			}
		}
		return out
	case "items", "additionalProperties":
		return closed(v)
	}
	return value
}

func str(value any) string {
	text, _ := value.(string)
	return text
}
