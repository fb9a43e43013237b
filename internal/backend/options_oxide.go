// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"

	version "github.com/oxidecomputer/oxide-cloud-controller-manager"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// oxideConfig checks the settings of Oxide, and returns all that is wrong with them, joined.
func (o *Options) oxideConfig() (oxide.Config, error) {
	cfg := oxide.Config{UserAgent: "oxide-cloud-controller-manager/" + version.String()}
	var errs []error
	check := func(setting string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", setting, err))
		}
	}
	var err error
	cfg.Host, err = o.host()
	check(o.setting("--oxide-host or OXIDE_HOST", "oxide-host"), err)
	setting, token, err := o.tokenSource()
	cfg.Token = token
	check(o.setting(setting, "oxide-token"), err)
	cfg.Project, err = o.project()
	check(o.setting("--oxide-project or OXIDE_PROJECT", "oxide-project"), err)
	if o.CAFile != "" {
		cfg.Authorities, err = oxide.CAFile(o.CAFile)
		if err != nil {
			err = fmt.Errorf("%w; give a PEM file with the certificate of the authority that signs the API's, "+
				"readable by this user", err)
		}
		check(fmt.Sprintf("--oxide-ca-file or OXIDE_CA_FILE: %s", o.CAFile), err)
	}
	if o.source != "" && len(errs) > 1 && o.Host == "" && o.Project == "" {
		// One cause, and so one line.
		errs = []error{fmt.Errorf("nothing is known of Oxide: %s is missing, or lacks the keys "+
			"oxide-host, oxide-token and oxide-project; create it, and this program is started again",
			o.source)}
	}
	return cfg, errors.Join(errs...)
}

// setting names a setting, and where its value should have come from if that was told.
func (o *Options) setting(name, key string) string {
	if o.source == "" {
		return name
	}
	return fmt.Sprintf("%s (the key %s of %s)", name, key, o.source)
}

func (o *Options) host() (*url.URL, error) {
	if o.Host == "" {
		return nil, errors.New("it is not set; give the URL of the silo's Oxide API, " +
			"for example https://my-silo.sys.rack.example.com")
	}
	host, err := oxide.ParseHost(o.Host)
	if err != nil {
		// Quoting the value could show a password that stands in it.
		return nil, fmt.Errorf("%w; give the URL of the silo's Oxide API, "+
			"for example https://my-silo.sys.rack.example.com", err)
	}
	return host, nil
}

// maxTokenBytes is more than a token has.
const maxTokenBytes = 4096

// readToken reads the token from the descriptor, if there is one, and closes that. What cannot be read
// is as if it were not given.
func (o *Options) readToken() string {
	if o.TokenFD < 0 {
		return ""
	}
	pipe := os.NewFile(uintptr(o.TokenFD), "token")
	o.TokenFD = -1
	if pipe == nil {
		return ""
	}
	defer func() { _ = pipe.Close() }()
	token, err := io.ReadAll(io.LimitReader(pipe, maxTokenBytes))
	if err != nil {
		return ""
	}
	return string(token)
}

// tokenSource returns the source of the token and the setting that it comes from.
func (o *Options) tokenSource() (string, *oxide.TokenSource, error) {
	switch {
	case o.TokenFile != "":
		setting := "--oxide-token-file or OXIDE_TOKEN_FILE: " + o.TokenFile
		token, err := oxide.TokenFile(o.TokenFile)
		if err != nil {
			err = fmt.Errorf("%w; put the Oxide API token there, readable by this user", err)
		}
		return setting, token, err
	case !o.token.IsEmpty():
		token, err := oxide.StaticToken(o.token.Reveal())
		if err != nil {
			err = fmt.Errorf("%w; give one Oxide API token in it", err)
		}
		return "OXIDE_TOKEN", token, err
	}
	return "--oxide-token-file, OXIDE_TOKEN_FILE or OXIDE_TOKEN", nil,
		errors.New("none is set; give a file with an Oxide API token, or the token itself " +
			"in OXIDE_TOKEN")
}

func (o *Options) project() (string, error) {
	switch {
	case o.Project == "":
		return "", errors.New("it is not set; give the name or id of the project that the " +
			"instances are in")
	case !oxide.ValidName(o.Project) && !oxide.ValidID(o.Project):
		return "", fmt.Errorf("%q is neither a name of Oxide (1 to 63 characters: a lower-case "+
			"letter, then a-z, 0-9 and -) nor an id", o.Project)
	}
	return o.Project, nil
}
