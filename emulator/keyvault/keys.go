// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

type keyBundle struct {
	deletedFields

	Key        *jsonWebKey       `json:"key,omitempty"`
	ID         string            `json:"kid,omitempty"` // in lists
	Managed    bool              `json:"managed,omitempty"`
	Attributes attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags,omitempty"`
	Release    map[string]any    `json:"release_policy,omitempty"`
}

func keyRoutes() []route {
	list := []route{
		prepared(at(http.MethodPost, "keys/{name}/create", keys, "create", "create", nil), prepareKey, createKey),
		prepared(at(http.MethodPost, "keys/{name}/rotate", keys, "rotate", "rotate", nil), prepareRotation, rotateKey),
		at(http.MethodGet, "keys/{name}/rotationpolicy", keys, "getRotationPolicy", "getrotationpolicy", getRotationPolicy),
		at(http.MethodPut, "keys/{name}/rotationpolicy", keys, "setRotationPolicy", "setrotationpolicy", setRotationPolicy),
		at(http.MethodPut, "keys/{name}", keys, "import", "import", importKey),
		at(http.MethodGet, "keys/{name}/{version}", keys, "get", "get", getKey),
		at(http.MethodPatch, "keys/{name}/{version}", keys, "update", "update", updateKey),
		at(http.MethodPost, "keys/{name}/{version}/release", keys, "release", "release", releaseKey),
		at(http.MethodPost, "keys/{name}/release", keys, "release", "release", releaseKey),
	}
	for _, name := range slices.Sorted(maps.Keys(cryptography)) {
		lower := strings.ToLower(name)
		list = append(list, at(http.MethodPost, "keys/{name}/{version}/"+lower, keys, name, lower, useKey),
			// Clients that join paths send the newest version as no segment at all.
			at(http.MethodPost, "keys/{name}/"+lower, keys, name, lower, useKey))
	}
	return list
}

func (v *vault) keyBundle(o *object, ver *version) keyBundle {
	public := ver.material.public(v.id(keys, o.name, ver.id), ver.operations)
	return keyBundle{
		deletedFields: v.deletedFields(keys, o), Key: &public, Managed: o.managed, Attributes: ver.attributes,
		Tags: ver.tags, Release: ver.release,
	}
}

func (v *vault) keyItem(o *object, ver *version, id string) keyBundle {
	return keyBundle{
		deletedFields: v.deletedFields(keys, o), ID: id, Managed: o.managed, Attributes: ver.attributes, Tags: ver.tags,
	}
}

type createKeyBody struct {
	keyRequest

	Operations []string          `json:"key_ops"`
	Attributes *attributesIn     `json:"attributes"`
	Tags       map[string]string `json:"tags"`
	Release    map[string]any    `json:"release_policy"`
}

func prepareKey(c *call) (any, *failure) {
	var in createKeyBody
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	if in.Release != nil {
		return nil, notEmulated("secure key release")
	}
	if bad := checkTags(in.Tags); bad != nil {
		return nil, bad
	}
	m, bad := generate(in.keyRequest)
	if bad != nil {
		return nil, bad
	}
	if in.Operations == nil {
		in.Operations = defaultOperations(m)
	}
	return &version{material: m, operations: in.Operations, attributes: c.vault.fresh(in.Attributes), tags: in.Tags}, nil
}

func defaultOperations(m *material) []string {
	if m.rsa != nil {
		return []string{"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}
	}
	return []string{"sign", "verify"}
}

func createKey(c *call, made any) (*reply, *failure) {
	ver, _ := made.(*version)
	o, bad := c.vault.addKey(c.name, ver)
	if bad != nil {
		return nil, bad
	}
	return ok(c.vault.keyBundle(o, ver)), nil
}

// addKey adds a version to a key, making the key when it is new.
func (v *vault) addKey(name string, ver *version) (*object, *failure) {
	o, bad := v.claim(keys, name)
	if bad != nil {
		return nil, bad
	}
	if o.managed {
		return nil, managedByVault(keys, "create")
	}
	if ver.id == "" {
		ver.id = newVersionID()
	}
	o.versions = append(o.versions, ver)
	v.put(keys, o)
	v.announce(keys, o, ver)
	return o, nil
}

func importKey(c *call) (*reply, *failure) {
	var in struct {
		HSM        bool              `json:"Hsm"`
		Key        jsonWebKey        `json:"key"`
		Attributes *attributesIn     `json:"attributes"`
		Tags       map[string]string `json:"tags"`
		Release    map[string]any    `json:"release_policy"`
	}
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	if bad := checkTags(in.Tags); bad != nil {
		return nil, bad
	}
	m, err := importJWK(in.Key)
	if err != nil {
		return nil, badParameter("Property key has an invalid value; the private key is incomplete or inconsistent.")
	}
	m.hsm = m.hsm || in.HSM
	if in.Key.Operations == nil {
		in.Key.Operations = defaultOperations(m)
	}
	ver := &version{material: m, operations: in.Key.Operations, attributes: c.vault.fresh(in.Attributes), tags: in.Tags}
	o, bad := c.vault.addKey(c.name, ver)
	if bad != nil {
		return nil, bad
	}
	return ok(c.vault.keyBundle(o, ver)), nil
}

func getKey(c *call) (*reply, *failure) {
	o, ver, bad := c.vault.version(keys, c.name, c.version)
	if bad != nil {
		return nil, bad
	}
	if !ver.attributes.Enabled {
		return nil, disabled(keys, "get")
	}
	return ok(c.vault.keyBundle(o, ver)), nil
}

func updateKey(c *call) (*reply, *failure) {
	var in struct {
		Operations []string          `json:"key_ops"`
		Attributes *attributesIn     `json:"attributes"`
		Tags       map[string]string `json:"tags"`
	}
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	o, ver, bad := c.vault.version(keys, c.name, c.version)
	if bad != nil {
		return nil, bad
	}
	if o.managed {
		return nil, managedByVault(keys, "update")
	}
	if bad := checkTags(in.Tags); bad != nil {
		return nil, bad
	}
	if in.Operations != nil {
		ver.operations = in.Operations
	}
	c.vault.update(ver, in.Attributes, in.Tags)
	return ok(c.vault.keyBundle(o, ver)), nil
}

func releaseKey(*call) (*reply, *failure) { return nil, notEmulated("secure key release") }

func prepareRotation(c *call) (any, *failure) {
	c.vault.mu.Lock()
	_, ver, bad := c.vault.version(keys, c.name, "")
	if bad != nil {
		c.vault.mu.Unlock()
		return nil, bad
	}
	old, operations, tags := ver.material, ver.operations, ver.tags
	c.vault.mu.Unlock()
	request := keyRequest{Type: old.kind(), Curve: old.curve()}
	if old.rsa != nil {
		request.Size = old.bits()
	}
	m, bad := generate(request)
	if bad != nil {
		return nil, bad
	}
	return &version{material: m, operations: operations, attributes: c.vault.fresh(nil), tags: tags}, nil
}

func rotateKey(c *call, made any) (*reply, *failure) {
	o, bad := c.vault.object(keys, c.name)
	if bad != nil {
		return nil, bad
	}
	if o.managed {
		return nil, managedByVault(keys, "rotate")
	}
	ver, _ := made.(*version)
	ver.id = newVersionID()
	o.versions = append(o.versions, ver)
	c.vault.announce(keys, o, ver)
	return ok(c.vault.keyBundle(o, ver)), nil
}

func getRotationPolicy(c *call) (*reply, *failure) {
	o, bad := c.vault.object(keys, c.name)
	if bad != nil {
		return nil, bad
	}
	if o.rotation != nil {
		return ok(o.rotation), nil
	}
	return ok(map[string]any{
		"id": c.vault.id(keys, o.name, "rotationpolicy"),
		"lifetimeActions": []any{map[string]any{
			"trigger": map[string]any{"timeBeforeExpiry": "P30D"}, "action": map[string]any{"type": "Notify"},
		}},
		"attributes": map[string]any{},
	}), nil
}

// setRotationPolicy keeps the policy; nothing rotates by itself here.
func setRotationPolicy(c *call) (*reply, *failure) {
	var in struct {
		Actions    []any          `json:"lifetimeActions"`
		Attributes map[string]any `json:"attributes"`
	}
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	o, bad := c.vault.object(keys, c.name)
	if bad != nil {
		return nil, bad
	}
	now := c.vault.now().Unix()
	given := maps.Clone(in.Attributes)
	if given == nil {
		given = map[string]any{}
	}
	given["created"], given["updated"] = now, now
	o.rotation = map[string]any{
		"id": c.vault.id(keys, o.name, "rotationpolicy"), "lifetimeActions": in.Actions, "attributes": given,
	}
	return ok(o.rotation), nil
}
