// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// route is one operation: how it is called, what it needs and who answers it.
type route struct {
	method, pattern string
	parts           []string // of the pattern
	kind            kind
	// operation is its name in counters and faults, permission the one it needs in access policies; "" needs none.
	operation, permission string
	// prepare does what takes long (making keys) before the vault is locked.
	prepare func(*call) (any, *failure)
	handle  func(*call, any) (*reply, *failure)
}

func (r route) prepareFor(c *call) (any, *failure) {
	if r.prepare == nil {
		return nil, nil //nolint:nilnil // nothing to prepare, nothing wrong
	}
	return r.prepare(c)
}

type handler func(*call) (*reply, *failure)

func at(method, pattern string, k kind, operation, permission string, h handler) route {
	return route{
		method: method, pattern: pattern, parts: strings.Split(pattern, "/"), kind: k, operation: string(k) + "/" + operation, permission: permission,
		handle: func(c *call, _ any) (*reply, *failure) { return h(c) },
	}
}

func prepared(r route, prepare func(*call) (any, *failure), handle func(*call, any) (*reply, *failure)) route {
	r.prepare, r.handle = prepare, handle
	return r
}

// routes is every operation; the first that matches answers, so fixed names stand before {name} and {version}.
func routes() []route {
	return slices.Concat(
		certificateRoutes(),
		common(secrets), common(keys), common(certificates),
		secretRoutes(), keyRoutes(), certificateVersionRoutes(),
	)
}

// common are the operations that secrets, keys and certificates share.
func common(k kind) []route {
	base, deleted := string(k), "deleted"+string(k)
	return []route{
		at(http.MethodGet, base, k, "list", "list", listLive),
		at(http.MethodPost, base+"/restore", k, "restore", "restore", restore),
		at(http.MethodGet, base+"/{name}/versions", k, "listVersions", "list", listVersions),
		at(http.MethodPost, base+"/{name}/backup", k, "backup", "backup", backUp),
		at(http.MethodDelete, base+"/{name}", k, "delete", "delete", remove),
		at(http.MethodGet, deleted, k, "listDeleted", "list", listDeleted),
		at(http.MethodGet, deleted+"/{name}", k, "getDeleted", "get", getDeleted),
		at(http.MethodDelete, deleted+"/{name}", k, "purge", "purge", purge),
		at(http.MethodPost, deleted+"/{name}/recover", k, "recover", "recover", recoverDeleted),
	}
}

var allRoutes = routes()

var (
	namePattern    = regexp.MustCompile(`\A[0-9A-Za-z-]{1,127}\z`)
	versionPattern = regexp.MustCompile(`\A[0-9a-f]{32}\z`)
)

// resolve finds the route of a call and checks the names in its path.
func (c *call) resolve() *failure {
	path := strings.Trim(c.request.URL.Path, "/")
	parts := strings.Split(path, "/")
	known := false
	for _, r := range allRoutes {
		name, version, matches := match(r.parts, parts)
		if !matches {
			continue
		}
		known = true
		if r.method != c.request.Method {
			continue
		}
		c.route, c.name, c.version = r, name, version
		return c.checkNames()
	}
	c.route = route{operation: "unknown"}
	if known {
		return &failure{
			status: http.StatusMethodNotAllowed, code: "MethodNotAllowed",
			message: "The HTTP method '" + c.request.Method + "' is not supported at path '" + c.request.URL.Path + "'.",
		}
	}
	return &failure{status: http.StatusNotFound, code: "NotFound", message: "The requested resource was not found."}
}

func (c *call) checkNames() *failure {
	if strings.Contains(c.route.pattern, "{name}") && !namePattern.MatchString(c.name) {
		bad := c.name
		c.name = "" // what a stranger sent does not belong in the log
		return badParameter("The request URI contains an invalid name: %s", bad)
	}
	if c.version != "" && !versionPattern.MatchString(c.version) {
		// The service answers for a version it cannot have as for one it does not have.
		return notFound(c.route.kind, c.name+"/"+c.version)
	}
	return nil
}

// match compares a path with a pattern. The one optional part is a trailing {version}, which clients leave out or
// send as nothing for the newest.
func match(pattern, parts []string) (string, string, bool) {
	name, version := "", ""
	if len(pattern) == len(parts)+1 && pattern[len(pattern)-1] == "{version}" {
		pattern = pattern[:len(parts)]
	}
	if len(pattern) != len(parts) {
		return "", "", false
	}
	for i, want := range pattern {
		switch {
		case want == "{name}":
			name = parts[i]
		case want == "{version}":
			version = parts[i]
		case !strings.EqualFold(want, parts[i]):
			return "", "", false
		}
	}
	return name, version, true
}
