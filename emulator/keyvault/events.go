// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"strings"
	"time"
)

// Version says which version of which object something happened to, without its value.
type Version struct {
	// ID is the version's address; Resource is the vault in Azure's resource manager.
	ID, Resource string
	Vault        string
	Kind         string // Secret, Certificate or Key
	Name         string
	Version      string
	NotBefore    *int64 // Unix seconds
	Expires      *int64
	Time         time.Time
}

// singular is a kind as events name it.
var singular = map[kind]string{secrets: "Secret", certificates: "Certificate", keys: "Key"}

// announce tells that a version was added.
func (v *vault) announce(k kind, o *object, ver *version) {
	if v.created != nil {
		v.created(v.describe(k, o, ver))
	}
}

func (v *vault) describe(k kind, o *object, ver *version) Version {
	return Version{
		ID: v.id(k, o.name, ver.id), Vault: v.name, Kind: singular[k], Name: o.name, Version: ver.id,
		Resource:  "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/emulator/providers/Microsoft.KeyVault/vaults/" + v.name,
		NotBefore: ver.attributes.NotBefore, Expires: ver.attributes.Expires, Time: time.Unix(ver.attributes.Created, 0).UTC(),
	}
}

// Newest describes the newest version of an object.
func (s *Server) Newest(vaultName, kindName, name string) (Version, error) {
	v, err := s.byName(vaultName)
	if err != nil {
		return Version{}, err
	}
	k, err := knownKind(kindName)
	if err != nil {
		return Version{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	o, ver, bad := v.version(k, name, "")
	if bad != nil {
		return Version{}, asError(bad)
	}
	out := v.describe(k, o, ver)
	out.Time = s.now().UTC()
	return out, nil
}

// VaultName is a vault's name as it stands in events, or ErrNoVault.
func (s *Server) VaultName(vaultName string) (string, error) {
	v, err := s.byName(vaultName)
	if err != nil {
		return "", err
	}
	return strings.ToLower(v.name), nil
}
