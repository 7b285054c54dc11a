// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"slices"
	"strings"

	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// Caller is whom a verified token speaks for, and what the token is good for.
type Caller struct {
	TenantID string
	ObjectID string
	AppID    string
	Audience string
}

func (c Caller) issuer() string { return "https://sts.windows.net/" + c.TenantID + "/" }

// String is how the service names a caller in its messages.
func (c Caller) String() string {
	return "appid=" + c.AppID + ";oid=" + c.ObjectID + ";iss=" + c.issuer()
}

// allowed decides whether the caller may do what the call asks for.
func (s *Server) allowed(c *call) *failure {
	if c.route.permission == "" {
		return nil
	}
	may := slices.ContainsFunc(c.vault.permissions, func(p seed.Permission) bool {
		return s.principals[p.Principal] == c.caller.ObjectID && p.Allows(string(c.route.kind), c.route.permission, c.name)
	})
	switch {
	case may:
		return nil
	case c.vault.access == seed.AccessPolicy:
		return forbiddenByPolicy(c)
	default:
		return forbiddenByRBAC(c)
	}
}

// action is the name of a data action in role definitions.
func action(k kind, permission string) string {
	base := "Microsoft.KeyVault/vaults/" + string(k) + "/"
	switch {
	case k == secrets && permission == "get":
		return base + "getSecret/action"
	case k == secrets && permission == "set":
		return base + "setSecret/action"
	case k == secrets && permission == "list":
		return base + "readMetadata/action"
	case permission == "get" || permission == "list":
		return base + "read"
	case permission == "delete":
		return base + "delete"
	case strings.HasSuffix(permission, "key"):
		return base + strings.TrimSuffix(permission, "key") + "/action"
	default:
		return base + permission + "/action"
	}
}
