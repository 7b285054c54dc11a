// SPDX-License-Identifier: Apache-2.0

package seed

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// Kinds of objects, as they stand in a URL.
const (
	Secrets      = "secrets"
	Certificates = "certificates"
	Keys         = "keys"
)

// Every permission of each kind, as access policies name them.
var allPermissions = map[string][]string{
	Secrets: {"get", "list", "set", "delete", "recover", "backup", "restore", "purge"},
	Certificates: {
		"get", "list", "create", "import", "update", "delete", "recover", "backup", "restore", "purge",
		"managecontacts", "manageissuers", "getissuers", "listissuers", "setissuers", "deleteissuers",
	},
	Keys: {
		"get", "list", "create", "import", "update", "delete", "recover", "backup", "restore", "purge",
		"encrypt", "decrypt", "sign", "verify", "wrapkey", "unwrapkey", "rotate", "getrotationpolicy",
		"setrotationpolicy", "release",
	},
}

// Roles are the built-in roles of the data plane and what each allows.
var roles = map[string]map[string][]string{
	"Key Vault Administrator":        allPermissions,
	"Key Vault Reader":               {Secrets: {"list"}, Certificates: {"get", "list"}, Keys: {"get", "list"}},
	"Key Vault Secrets Officer":      {Secrets: allPermissions[Secrets]},
	"Key Vault Secrets User":         {Secrets: {"get", "list"}},
	"Key Vault Certificates Officer": {Certificates: allPermissions[Certificates]},
	"Key Vault Certificate User":     {Certificates: {"get", "list"}, Secrets: {"get", "list"}, Keys: {"get", "list"}},
	"Key Vault Crypto Officer":       {Keys: allPermissions[Keys]},
	"Key Vault Crypto User": {
		Keys: {"get", "list", "update", "encrypt", "decrypt", "sign", "verify", "wrapkey", "unwrapkey", "backup"},
	},
	"Key Vault Crypto Service Encryption User": {Keys: {"get", "wrapkey", "unwrapkey"}},
}

// RoleNames lists the roles that Permission.Roles may name.
func RoleNames() []string { return slices.Sorted(maps.Keys(roles)) }

// Allows reports whether a permission lets its principal do something: kind and permission as access policies name
// them, name empty for what concerns no single object.
func (p Permission) Allows(kind, permission, name string) bool {
	if slices.ContainsFunc(p.list(kind), func(have string) bool {
		return have == "all" || strings.EqualFold(have, permission)
	}) {
		return true
	}
	inRole := slices.ContainsFunc(p.Roles, func(role string) bool {
		return slices.Contains(roles[role][kind], permission)
	})
	return inRole && p.inScope(kind, name)
}

func (p Permission) list(kind string) []string {
	switch kind {
	case Secrets:
		return p.Secrets
	case Certificates:
		return p.Certificates
	default:
		return p.Keys
	}
}

func (p Permission) inScope(kind, name string) bool {
	if len(p.Scopes) == 0 {
		return true
	}
	return name != "" && slices.ContainsFunc(p.Scopes, func(scope string) bool {
		return strings.EqualFold(scope, kind+"/"+name)
	})
}

// CheckPermissions says what is wrong with permissions that are to replace those of a vault.
func CheckPermissions(list []Permission, access Access, principals map[string]bool) error {
	p := &problems{}
	for i, it := range list {
		p.permission(place("", "permissions", i, it.Principal), it, access, principals)
	}
	return errors.Join(p.found...)
}

// CheckFaults says what is wrong with the faults of a vault.
func CheckFaults(list []Fault) error { return checkFaults(list, FaultKinds()) }

// CheckSignInFaults says what is wrong with the faults of a sign-in.
func CheckSignInFaults(list []Fault) error { return checkFaults(list, SignInFaultKinds()) }

func checkFaults(list []Fault, kinds []FaultKind) error {
	p := &problems{}
	p.faults("", list, kinds)
	return errors.Join(p.found...)
}

// CheckLimit fills in defaults of a limit and says what is wrong with it.
func CheckLimit(l *Limit) error {
	p := &problems{}
	p.limit("limit", l)
	return errors.Join(p.found...)
}

// CheckSecret fills in defaults of a secret and says what is wrong with it.
func CheckSecret(s *Secret) error {
	p := &problems{}
	p.secret("secret", s)
	return errors.Join(p.found...)
}

// CheckCertificate is CheckSecret for a certificate; pfx is its vault's setting.
func CheckCertificate(c *Certificate, pfx PFX) error {
	p := &problems{}
	p.certificate("certificate", c, pfx)
	return errors.Join(p.found...)
}

func (p *problems) permission(where string, it Permission, access Access, principals map[string]bool) {
	if !principals[it.Principal] {
		p.add(where, "no principal has this name")
	}
	switch access {
	case AccessRBAC:
		p.roles(where, it)
	case AccessPolicy:
		p.lists(where, it)
	}
}

func (p *problems) roles(where string, it Permission) {
	if len(it.Secrets)+len(it.Certificates)+len(it.Keys) > 0 {
		p.add(where, "lists of permissions need access: policy; give roles")
	}
	if len(it.Roles) == 0 {
		p.add(where, "roles is empty")
	}
	for _, role := range it.Roles {
		if _, known := roles[role]; !known {
			p.add(where, "role %q is none of %s", role, strings.Join(RoleNames(), ", "))
		}
	}
	for _, scope := range it.Scopes {
		kind, name, _ := strings.Cut(scope, "/")
		if allPermissions[kind] == nil || !objectName.MatchString(name) {
			p.add(where, "scope %q is not of the form secrets/name", scope)
		}
	}
}

func (p *problems) lists(where string, it Permission) {
	if len(it.Roles)+len(it.Scopes) > 0 {
		p.add(where, "roles and scopes need access: rbac; give lists of permissions")
	}
	for _, kind := range []string{Secrets, Certificates, Keys} {
		for _, one := range it.list(kind) {
			if one != "all" && !slices.Contains(allPermissions[kind], strings.ToLower(one)) {
				p.add(where, "%s has no permission %q; it has %s", kind, one, strings.Join(allPermissions[kind], ", "))
			}
		}
	}
}
