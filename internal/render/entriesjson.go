// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"
)

// readJSON keeps numbers, true and false as they are written; null is empty.
func readJSON(text []byte, c *collection) error {
	if !utf8.Valid(text) {
		return ErrEntries // the decoder would put something else in its place
	}
	err := members(text, func(m member) error {
		value, ok := scalarJSON(m.value)
		if !ok {
			return c.refuse(ErrEntryValue)
		}
		return c.add(m.name, value)
	})
	if errors.Is(err, errNoObject) {
		return ErrEntries
	}
	return err
}

func scalarJSON(value []byte) (string, bool) {
	switch value[0] {
	case '{', '[':
		return "", false
	case '"':
		text, ok := stringOf(value)
		return text, ok && !replaced(text, value)
	case 'n':
		return "", true
	default:
		return string(value), true
	}
}

// replaced says whether the decoder put U+FFFD where half of a UTF-16 pair was
// written: a value that is not what somebody stored is none.
func replaced(text string, written []byte) bool {
	const replacement = "\uFFFD"
	own := bytes.Count(written, []byte(replacement)) + bytes.Count(bytes.ToLower(written), []byte(`\ufffd`))
	return strings.Count(text, replacement) > own
}
