// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// A member is a name and value of a JSON object, and where in its text the value
// stands.
type member struct {
	name       string
	value      []byte
	start, end int
}

// errNoObject is any text that is not one JSON object. The decoder's own errors
// quote what they read.
var errNoObject = errors.New("not a JSON object")

// members visits the members of the one object that text must be, in their order
// and as they are written: unmarshalling would lose duplicates, the text of
// numbers and the place of everything.
func members(text []byte, visit func(member) error) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if !next(d, '{') {
		return errNoObject
	}
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			return errNoObject
		}
		end := int(d.InputOffset())
		if err := visit(member{name, value, end - len(value), end}); err != nil {
			return err
		}
	}
	if !next(d, '}') {
		return errNoObject
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errNoObject
	}
	return nil
}

func next(d *json.Decoder, want json.Delim) bool {
	token, err := d.Token()
	return err == nil && token == want
}

// stringOf is the text of a JSON string, and false for anything else.
func stringOf(value []byte) (string, bool) {
	var text string
	ok := len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &text) == nil
	return text, ok
}
