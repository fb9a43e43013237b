// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command schemas writes JSON schemas of Kubernetes objects for kubeconform, one file for each kind:
// those of Kubernetes from the OpenAPI document in its module, and those of others from the
// definitions in theirs. Fields that a kind does not have are refused.
//
//	go run ./schemas --kubernetes ../test/e2e/kube --output FOLDER
//
// It imports no package of the product.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
)

const (
	kubernetesModule = "k8s.io/kubernetes"
	openAPI          = "api/openapi-spec/swagger.json"
)

// definitions are modules that hold definitions of kinds, with the checksum that their content has.
var definitions = []struct{ module, sum, files string }{
	{
		"github.com/prometheus-operator/prometheus-operator@v0.85.0",
		"h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
		"example/prometheus-operator-crd/*.yaml",
	},
	{
		"github.com/k3s-io/helm-controller@v0.17.9",
		"h1:HhZTiFhVDzhbAYeb/aSlExWhJTnDTpHypMqu5Mh8Uow=",
		"pkg/crds/yaml/generated/*.yaml",
	},
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 0 when the schemas are written, 2 for wrong flags, 1 for all else.
func run(args []string, stdout, stderr io.Writer) int {
	flags := pflag.NewFlagSet("schemas", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	kubernetes := flags.String("kubernetes", "", "Folder of a module that requires "+kubernetesModule+".")
	output := flags.String("output", "", "Folder to write to. What is there already goes.")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		_, _ = fmt.Fprintln(stderr, "schemas:", err)
		return 2
	case *kubernetes == "" || *output == "" || flags.NArg() > 0:
		_, _ = fmt.Fprintln(stderr, "schemas: give --kubernetes and --output, and nothing else")
		return 2
	}
	written, err := write(*kubernetes, *output)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "schemas:", err)
		return 1
	}
	_, _ = fmt.Fprintf(stdout, "%d schemas in %s\n", written, *output)
	return 0
}

// write writes all schemas, and returns how many.
func write(kubernetes, output string) (int, error) {
	folder, err := kubernetesFolder(kubernetes)
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(openAPI)))
	if err != nil {
		return 0, fmt.Errorf("the OpenAPI document of Kubernetes: %w", err)
	}
	all, err := fromOpenAPI(text)
	if err != nil {
		return 0, fmt.Errorf("%s of %s: %w", openAPI, kubernetesModule, err)
	}
	for _, of := range definitions {
		if err := addDefinitions(all, of.module, of.sum, of.files); err != nil {
			return 0, err
		}
	}
	if err := os.RemoveAll(output); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(output, 0o755); err != nil {
		return 0, err
	}
	for name, schema := range all {
		text, err := json.Marshal(schema)
		if err != nil {
			return 0, err
		}
		path := filepath.Join(output, name)
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return 0, err
		}
	}
	return len(all), nil
}

// kubernetesFolder returns where the module is, of the version that another module requires.
func kubernetesFolder(requiring string) (string, error) {
	type module struct{ Dir, Error string }
	found, err := goJSON[module](requiring, "mod", "download", "-json", kubernetesModule)
	if err != nil {
		return "", fmt.Errorf("%s, as %s requires it: %w", kubernetesModule, requiring, err)
	}
	return found.Dir, nil
}

func addDefinitions(all map[string]object, module, sum, files string) error {
	type downloaded struct{ Dir, Sum string }
	found, err := goJSON[downloaded]("", "mod", "download", "-json", module)
	if err != nil {
		return fmt.Errorf("%s: %w", module, err)
	}
	if found.Sum != sum {
		return fmt.Errorf("%s has the checksum %s, want %s", module, found.Sum, sum)
	}
	paths, err := filepath.Glob(filepath.Join(found.Dir, filepath.FromSlash(files)))
	if err != nil || len(paths) == 0 {
		return fmt.Errorf("%s has no files %s: %w", module, files, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		schemas, err := fromDefinition(text)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", filepath.Base(path), module, err)
		}
		for name, schema := range schemas {
			all[name] = schema
		}
	}
	return nil
}

// goJSON runs the go tool and decodes what it prints.
func goJSON[T any](folder string, args ...string) (T, error) {
	var result T
	cmd := exec.Command("go", args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return result, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err,
			strings.TrimSpace(stderr.String()+string(out)))
	}
	return result, json.Unmarshal(out, &result)
}
