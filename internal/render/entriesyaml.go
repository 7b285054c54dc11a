// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readYAML keeps every scalar as it is written, be it a number, a date or a
// truth; null is empty. It reads the tree and never decodes it, so that an alias
// costs nothing before its one value is looked at.
func readYAML(text []byte, c *collection) error {
	root, err := rootOf(text)
	if err != nil || root.Kind != yaml.MappingNode {
		return ErrEntries // the parser's error quotes what it read
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		name, err := scalarYAML(root.Content[i])
		if err != nil {
			return c.refuse(ErrEntryName)
		}
		value, err := scalarYAML(root.Content[i+1])
		if err != nil {
			return c.refuse(err)
		}
		if err := c.add(name, value); err != nil {
			return err
		}
	}
	return nil
}

// rootOf is the top of the only document.
func rootOf(text []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document, further yaml.Node
	if err := d.Decode(&document); err != nil {
		return nil, ErrEntries
	}
	if err := d.Decode(&further); !errors.Is(err, io.EOF) || len(document.Content) != 1 {
		return nil, ErrEntries
	}
	return document.Content[0], nil
}

func scalarYAML(n *yaml.Node) (string, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || n.Kind != yaml.ScalarNode {
		return "", ErrEntryValue
	}
	written := n.Style&yaml.TaggedStyle == 0 // and not only claimed by a tag
	switch tag := n.ShortTag(); {
	case tag == "!!null" && written:
		return "", nil
	case tag == "!!merge":
		return "", ErrEntryValue
	case tag == "!!binary":
		return binary(n.Value)
	default:
		return n.Value, nil
	}
}

// binary is base64 over as many lines as somebody likes.
func binary(text string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return "", ErrEntryBinary
	}
	return string(raw), nil
}
