// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"encoding/base64"
	"strings"
)

const (
	defaultPageSize = 100
	maxPageSize     = 1000
)

// pageSize applies the default and the limit that every list of the API has.
func pageSize(requested int32) (int, error) {
	switch {
	case requested < 0:
		return 0, invalidf("page_size", "%d is negative", requested)
	case requested == 0:
		return defaultPageSize, nil
	case requested > maxPageSize:
		return maxPageSize, nil
	}
	return int(requested), nil
}

// A page token is the last key of the page before, so it stays good when entries come and go.
// Encoding it says: do not read this.
func encodePageToken(lastKey ...string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(lastKey, "\x00")))
}

func decodePageToken(token string, parts int) ([]string, error) {
	if token == "" {
		return make([]string, parts), nil
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	key := strings.Split(string(text), "\x00")
	if err != nil || len(key) != parts {
		return nil, invalidf("page_token", "is not one that this backend gave out")
	}
	return key, nil
}
