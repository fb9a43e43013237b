// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/pflag"
)

// options are what the archive is made of.
type options struct {
	name     string
	version  string
	revision string
	created  string
	output   string
	binaries []string

	platforms []platform
	time      time.Time
	// tagged is name and version as container runtimes write them, with the registry and the folder
	// that they imply; an image loaded under a shorter name is never found.
	tagged reference.NamedTagged
}

// platform is one image of the archive: what it runs on, and the folder with its binaries.
type platform struct {
	v1.Platform
	folder string
}

// AddFlags declares the flags.
func (o *options) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.name, "name", "oxide-cloud-controller-manager",
		"name of the image, without its tag")
	flags.StringVar(&o.version, "version", "", "version of the product, which is the image's tag")
	flags.StringVar(&o.revision, "revision", "", "commit that the binaries are built from")
	flags.StringVar(&o.created, "created", "1970-01-01T00:00:00Z",
		"time of all files and of the image, in RFC 3339; a constant one keeps builds reproducible")
	flags.StringVar(&o.output, "output", "", "the archive to write")
	flags.StringArrayVar(&o.binaries, "binaries", nil,
		"OS/ARCH=FOLDER with ccm-shim and oxide-backend in it; repeated, one image for each")
}

// Complete derives what the flags imply. It returns all mistakes together.
func (o *options) Complete(args []string) error {
	var errs []error
	if len(args) > 0 {
		errs = append(errs, fmt.Errorf("%q is no flag: everything is given by flags", args[0]))
	}
	created, err := time.Parse(time.RFC3339, o.created)
	if err != nil {
		errs = append(errs, fmt.Errorf(
			"--created %q is no time: write it as 1970-01-01T00:00:00Z", o.created))
	}
	o.time = created.UTC()
	for _, value := range o.binaries {
		name, folder, _ := strings.Cut(value, "=")
		system, arch, _ := strings.Cut(name, "/")
		if system == "" || arch == "" || folder == "" || strings.Contains(arch, "/") {
			errs = append(errs, fmt.Errorf(
				"--binaries %q: write OS/ARCH=FOLDER, as in linux/amd64=bin", value))
			continue
		}
		o.platforms = append(o.platforms, platform{
			Platform: v1.Platform{OS: system, Architecture: arch}, folder: folder,
		})
	}
	return errors.Join(errs...)
}

// Validate says everything that is wrong with the options, and forms the name of the image.
func (o *options) Validate() error {
	var errs []error
	if named, err := reference.ParseNormalizedNamed(o.name); err != nil {
		errs = append(errs, fmt.Errorf("--name %q: %w", o.name, err))
	} else if !reference.IsNameOnly(named) {
		errs = append(errs, fmt.Errorf("--name %q has a tag: --version becomes the tag", o.name))
	} else if o.tagged, err = reference.WithTag(named, o.version); err != nil {
		errs = append(errs, fmt.Errorf("--version %q cannot be a tag: give the content of VERSION",
			o.version))
	}
	if o.output == "" {
		errs = append(errs, errors.New("--output is missing: say which file to write"))
	}
	if len(o.binaries) == 0 {
		errs = append(errs, errors.New("--binaries is missing: say where the programs are"))
	}
	for i, each := range o.platforms {
		if slices.ContainsFunc(o.platforms[:i], func(other platform) bool {
			return other.Equals(each.Platform)
		}) {
			errs = append(errs, fmt.Errorf("--binaries names %s twice: keep one", each))
		}
	}
	return errors.Join(errs...)
}
