// SPDX-License-Identifier: Apache-2.0

// Package brokerapi is what the wrapper and the broker say to each other, and
// what admission tells the wrapper about where to say it.
//
// One request per container start:
//
//	POST /v1/values
//	Authorization: Bearer <service-account token, bound to the pod and to Audience>
//	{"container":"app"}
//
// The answer is 200 and Response, or another status and Failure.
package brokerapi

import (
	"fmt"
	"log/slog"
	"time"
)

const (
	// Audience is what the pod's projected token must be for. A token for the
	// API server is not accepted, and the API server does not accept this one.
	Audience = "azure-keyvault-broker.spv.no"

	// TokenSeconds is the life of that token; the kubelet renews it at 80 %. It
	// is the shortest that Kubernetes grants.
	TokenSeconds = 600

	// ValuesPath is the one route.
	ValuesPath = "/v1/values"

	// MaxRequestBytes and MaxResponseBytes bound the two bodies. Linux gives a
	// process about 2 MiB for its arguments and environment by default, so
	// nothing larger could be used.
	MaxRequestBytes = 4 << 10
	// MaxResponseBytes bounds what the broker answers.
	MaxResponseBytes = 8 << 20

	// RequestTimeout is how long the wrapper waits for one answer.
	RequestTimeout = 30 * time.Second
)

// Where admission puts things in a container.
const (
	BinaryDir  = "/azure-keyvault/"
	Binary     = BinaryDir + "azure-keyvault-env"
	TokenDir   = "/var/run/secrets/azure-keyvault-env"
	TokenFile  = TokenDir + "/token"
	FilesDir   = "/var/run/secrets/azure-keyvault" // of a container whose placeholders ask for files
	EnvPrefix  = "ENV_INJECTOR_"                   // the wrapper removes every variable so named
	VolumeName = "azure-keyvault-env"
	// TokenVolumeName is the volume that holds the projected token.
	TokenVolumeName = "azure-keyvault-token"
	// FilesVolumePrefix begins the name of a volume for the files of one container; a
	// number follows.
	FilesVolumePrefix = "azure-keyvault-files-"
	// AzureTokenVolumeName is that volume where the token is for Entra ID. It is mounted
	// at TokenDir all the same.
	AzureTokenVolumeName = "azure-keyvault-azure-token"
	// TerminationLog is where the kubelet looks for a container's last word, unless
	// the container names another file.
	TerminationLog = "/dev/termination-log"
	// InitContainerName is the container that copies the wrapper.
	InitContainerName = "copy-azurekeyvault-env"
)

// GuardLabel of a namespace, with GuardValue, keeps people out of its containers, and
// values from those that were started long ago.
const (
	GuardLabel = "env-injector.spv.no/exec-guard"
	GuardValue = "enabled"
)

// Variables that admission sets for the wrapper. They hold no secret.
const (
	EnvContainer  = EnvPrefix + "CONTAINER"          // name of the container
	EnvBroker     = EnvPrefix + "BROKER"             // comma-separated address:port, tried in order
	EnvServerName = EnvPrefix + "BROKER_SERVER_NAME" // name in the broker's certificate
	EnvCABundle   = EnvPrefix + "BROKER_CA"          // PEM bundle
	// EnvCoreDumps is CoreDumpsAllowed in a container whose program may dump its memory.
	EnvCoreDumps = EnvPrefix + "CORE_DUMPS"
	// EnvTerminationLog is the container's terminationMessagePath, where it is not
	// TerminationLog.
	EnvTerminationLog = EnvPrefix + "TERMINATION_LOG"
	// EnvFor begins the name of a variable that tells, in the pod's spec, the
	// placeholders of another variable whose text is in a Secret.
	EnvFor = EnvPrefix + "FOR_"
)

// Variables that admission sets in the place of the broker's where the pod reads its
// vaults itself. They hold no secret either.
const (
	EnvSecrets     = EnvPrefix + "SECRETS"          // what the container's AzureKeyVaultSecrets say, as render.WriteSpecs writes it
	EnvClientID    = EnvPrefix + "CLIENT_ID"        // of the identity to sign in as
	EnvTenantID    = EnvPrefix + "TENANT_ID"        // of that identity
	EnvCloud       = EnvPrefix + "CLOUD"            // its name; empty is the public cloud
	EnvVaultSuffix = EnvPrefix + "VAULT_DNS_SUFFIX" // empty is the cloud's own
	EnvTrusted     = EnvPrefix + "CA_BUNDLE"        // PEM of authorities to trust besides the usual ones; empty is none
)

// AzureAudience is what a pod's projected token must be for that Entra ID trusts.
const AzureAudience = "api://AzureADTokenExchange"

// AzureTokenSeconds is the life of that token, in the place of TokenSeconds: Entra ID
// and its libraries expect an hour.
const AzureTokenSeconds = 3600

// CoreDumpsAllowed is what an annotation says, and then EnvCoreDumps.
const CoreDumpsAllowed = "allow"

// Variables that users may set on a container.
const (
	EnvLogLevel  = EnvPrefix + "LOG_LEVEL"         // error, warn, info, debug
	EnvLogFormat = EnvPrefix + "LOG_FORMAT"        // json, text (fmt)
	EnvRetries   = EnvPrefix + "RETRIES"           // default 3
	EnvRetryWait = EnvPrefix + "WAIT_BEFORE_RETRY" // seconds before the first retry, doubling; default 3
)

// Request asks for the values of one container of the calling pod.
type Request struct {
	Container string `json:"container"`
}

// Response holds what the placeholders of that container's environment, as the
// pod's spec has it, stand for: each of them is in exactly one of the three.
type Response struct {
	// Values by NAME@azurekeyvault?QUERY, be they for a text or for a file; base64 on
	// the wire.
	Values map[string][]byte `json:"values"`
	// Directories by NAME@azurekeyvault;directory: the contents of their files by name.
	Directories map[string]map[string][]byte `json:"directories,omitempty"`
	// Absent are those without a value, all of which say what to do then. Sorted.
	Absent []string `json:"absent,omitempty"`
}

// Format keeps the values out of every kind of printing.
func (Response) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, "[redacted]") }

// LogValue keeps the values out of the log.
func (Response) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Failure says why there is no Response. Every text in it was written for
// people and holds neither a value nor a remote error.
type Failure struct {
	Message  string    `json:"message"`
	Problems []Problem `json:"problems,omitempty"` // sorted by variable
	Retry    bool      `json:"retry,omitempty"`    // the same request may succeed later
}

// Problem says why one variable has no value.
type Problem struct {
	Variable    string `json:"variable"`
	Placeholder string `json:"placeholder"`
	Reason      string `json:"reason"` // a reason of api/v2beta1
	Message     string `json:"message"`
}
