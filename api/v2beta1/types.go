// SPDX-License-Identifier: Apache-2.0

package v2beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ObjectType is the kind of object in the vault.
//
// +kubebuilder:validation:Enum=secret;certificate;key;multi-key-value-secret
type ObjectType string

// What a vault holds, and how to read it.
const (
	ObjectSecret      ObjectType = "secret"
	ObjectCertificate ObjectType = "certificate"
	ObjectKey         ObjectType = "key"
	// ObjectMultiKeyValue is a secret whose value is a JSON or YAML object.
	ObjectMultiKeyValue ObjectType = "multi-key-value-secret"
)

// ContentType says how to read a multi-key-value-secret.
//
// +kubebuilder:validation:Enum=application/x-json;application/x-yaml
type ContentType string

// The two ways of writing several keys in one secret.
const (
	ContentJSON ContentType = "application/x-json"
	ContentYAML ContentType = "application/x-yaml"
)

// AzureKeyVaultSecret names one object of an Azure Key Vault and, optionally,
// the Secret or ConfigMap that the Controller keeps equal to it. Without an
// output it serves the Env Injector alone.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
// +kubebuilder:resource:path=azurekeyvaultsecrets,singular=azurekeyvaultsecret,shortName=akvs,categories=all
// +kubebuilder:printcolumn:name="Vault",type=string,JSONPath=`.spec.vault.name`,description="Which Key Vault the object is in"
// +kubebuilder:printcolumn:name="Vault Object",type=string,JSONPath=`.spec.vault.object.name`,description="The object's name in the vault"
// +kubebuilder:printcolumn:name="Secret Name",type=string,JSONPath=`.status.secretName`,description="The Secret that is kept equal to it"
// +kubebuilder:printcolumn:name="ConfigMap Name",type=string,priority=1,JSONPath=`.status.configMapName`,description="The ConfigMap that is kept equal to it"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the output is what the vault holds"
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="Why, in one word"
// +kubebuilder:printcolumn:name="Last Synched",type=date,JSONPath=`.status.lastAzureUpdate`,description="When the output last changed, or was confirmed with another version"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AzureKeyVaultSecret struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AzureKeyVaultSecretSpec   `json:"spec"`
	Status AzureKeyVaultSecretStatus `json:"status,omitempty"`
}

// AzureKeyVaultSecretList is a list of AzureKeyVaultSecret.
//
// +kubebuilder:object:root=true
type AzureKeyVaultSecretList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AzureKeyVaultSecret `json:"items"`
}

// AzureKeyVaultSecretSpec says which object, and where it should appear.
//
// +kubebuilder:validation:XValidation:rule="!has(self.output) || !has(self.output.secret) || (has(self.output.secret.dataKey) && size(self.output.secret.dataKey) > 0) || self.vault.object.type == 'multi-key-value-secret' || (has(self.output.secret.type) && (self.output.secret.type == 'kubernetes.io/tls' ? self.vault.object.type != 'key' : self.vault.object.type == 'secret' && self.output.secret.type in ['kubernetes.io/basic-auth', 'kubernetes.io/dockerconfigjson', 'kubernetes.io/dockercfg', 'kubernetes.io/ssh-auth']))",message="spec.output.secret.dataKey is required: it names the key of the Secret under which the value is kept"
// +kubebuilder:validation:XValidation:rule="!has(self.output) || !has(self.output.configMap) || (has(self.output.configMap.dataKey) && size(self.output.configMap.dataKey) > 0) || self.vault.object.type == 'multi-key-value-secret'",message="spec.output.configMap.dataKey is required: it names the key of the ConfigMap under which the value is kept"
// +kubebuilder:validation:XValidation:rule="!has(self.output) || !has(self.output.format) || self.vault.object.type == 'key'",message="spec.output.format is for objects of type key alone"
type AzureKeyVaultSecretSpec struct {
	Vault Vault `json:"vault"`
	// Refresh says when the Controller looks for changes in the vault.
	// +optional
	Refresh *Refresh `json:"refresh,omitempty"`
	// Where the Controller keeps the object. Leave it out to use the object with
	// the Env Injector alone.
	// +optional
	Output Output `json:"output,omitempty,omitzero"`
}

// RefreshPolicy says when the vault is asked again.
//
// +kubebuilder:validation:Enum=Periodic;OnChange;Once
type RefreshPolicy string

// When the vault is asked again.
const (
	// RefreshPeriodic asks at every interval. It is the default.
	RefreshPeriodic RefreshPolicy = "Periodic"
	// RefreshOnChange asks when the AzureKeyVaultSecret changes, when somebody
	// changes the output, and when the annotation spv.no/refresh changes.
	RefreshOnChange RefreshPolicy = "OnChange"
	// RefreshOnce asks until the output is there, and again only when that is gone
	// or is to be another.
	RefreshOnce RefreshPolicy = "Once"
)

// Refresh says when the Controller looks for changes in the vault.
//
// +kubebuilder:validation:XValidation:rule="!has(self.interval) || !has(self.policy) || self.policy == 'Periodic'",message="interval is for the policy Periodic alone"
type Refresh struct {
	// Policy: Periodic (the default), OnChange or Once.
	// +optional
	Policy RefreshPolicy `json:"policy,omitempty"`
	// Interval between two looks, such as 90s, 10m or 24h, in place of the
	// Controller's own. The Controller has a floor: what is below counts as the
	// floor.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,7}s)?$') && self.matches('[1-9]')",message="must be a time in hours, minutes and seconds, such as 24h, 10m, 1h30m or 90s"
	Interval *metav1.Duration `json:"interval,omitempty"`
}

// Vault names the vault and the object in it.
type Vault struct {
	// Name of the vault: of https://my-kv.vault.azure.net it is my-kv.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9-]{3,24}$')",message="must be the vault's name alone: 3 to 24 letters, digits and hyphens, without .vault.azure.net"
	Name string `json:"name"`
	// AzureIdentity is accepted for compatibility and not used yet.
	// +optional
	AzureIdentity *AzureIdentity `json:"azureIdentity,omitempty"`
	Object        VaultObject    `json:"object"`
}

// AzureIdentity names an identity to read the vault with. An empty name, which
// templates make of a value that nobody set, is none.
type AzureIdentity struct {
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// VaultObject names one object of a vault.
//
// +kubebuilder:validation:XValidation:rule="self.type != 'multi-key-value-secret' || has(self.contentType)",message="contentType is required for a multi-key-value-secret: application/x-json or application/x-yaml"
type VaultObject struct {
	// Name of the object in the vault.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9A-Za-z-]{1,127}$')",message="must be 1 to 127 letters, digits and hyphens, as in Key Vault"
	Name string `json:"name"`
	// Type of the object: secret, certificate, key or multi-key-value-secret.
	Type ObjectType `json:"type"`
	// Version pins the object to one version, 32 hex digits. Without it the
	// latest version is followed.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9a-fA-F]{32})?$')",message="must be 32 hexadecimal digits, as the vault names a version"
	Version string `json:"version,omitempty"`
	// ContentType says how a multi-key-value-secret is written.
	// +optional
	ContentType ContentType `json:"contentType,omitempty"`
}

// Output says where the object should appear.
type Output struct {
	// Secret to keep equal to the object.
	// +optional
	Secret *SecretOutput `json:"secret,omitempty"`
	// ConfigMap to keep equal to the object.
	// +optional
	ConfigMap *ConfigMapOutput `json:"configMap,omitempty"`
	// Format of a key: pem (the public key, PKIX), jwk (its JSON Web Key) or modulus
	// (base64url of an RSA modulus, what is written when left out).
	// +optional
	Format KeyFormat `json:"format,omitempty"`
	// Transform changes the value of a secret before it is written, step by step.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	Transform []Transform `json:"transform,omitempty"`
	// Transforms is what v1alpha1 calls transform.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	Transforms []Transform `json:"transforms,omitempty"`
}

// KeyFormat is how the public part of a key is written.
//
// +kubebuilder:validation:Enum=pem;jwk;modulus
type KeyFormat string

// How the public part of a key is written.
const (
	// FormatPEM is a PUBLIC KEY block, PKIX.
	FormatPEM KeyFormat = "pem"
	// FormatJWK is a JSON Web Key (RFC 7517) with the key's public members.
	FormatJWK KeyFormat = "jwk"
	// FormatModulus is base64url, without padding, of the modulus of an RSA key.
	FormatModulus KeyFormat = "modulus"
)

// Transform is one step.
//
// +kubebuilder:validation:Enum=trim;base64encode;base64decode
type Transform string

// SecretOutput describes the Secret.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.adopt) && self.adopt && has(self.immutable) && self.immutable)",message="adopt and immutable exclude each other: what is somebody else's must stay changeable"
type SecretOutput struct {
	// Name of the Secret, in the namespace of the AzureKeyVaultSecret.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
	Name string `json:"name"`
	// Type of the Secret, Opaque when left out.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!(self in ['kubernetes.io/service-account-token', 'bootstrap.kubernetes.io/token'])",message="Kubernetes itself acts upon Secrets of this type; choose another"
	Type string `json:"type,omitempty"`
	// DataKey is the key under which the value is kept. Types that fix their own
	// keys, such as kubernetes.io/tls, do not use it; empty is left out.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]*$')",message="must be letters, digits, '-', '_' and '.'"
	DataKey string `json:"dataKey,omitempty"`
	// ChainOrder ensureserverfirst puts the server's certificate first and its
	// issuers behind it.
	// +optional
	// +kubebuilder:validation:Enum=ensureserverfirst
	ChainOrder string `json:"chainOrder,omitempty"`
	// AddAuth adds to each registry of a kubernetes.io/dockerconfigjson the auth
	// that belongs to its username and password.
	// +optional
	AddAuth bool `json:"addAuth,omitempty"`

	OutputOptions `json:",inline"`
}

// OutputOptions are what Secret and ConfigMap outputs have in common.
type OutputOptions struct {
	// Labels of the output. Left out, it carries those of the AzureKeyVaultSecret
	// but for the ones that belong to kubectl, Helm, Argo CD and Flux.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Labels map[string]string `json:"labels,omitempty"`
	// Annotations of the output, as Labels.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="!self.exists(k, k.matches('^([^/]*[.])?(kubernetes|k8s)[.]io/'))",message="annotations below kubernetes.io and k8s.io make Kubernetes act; they cannot be set on an output"
	Annotations map[string]string `json:"annotations,omitempty"`
	// Immutable outputs cannot be edited. A new value replaces the whole object,
	// and pods that use it must be restarted. Nobody else may keep data in it.
	// +optional
	Immutable bool `json:"immutable,omitempty"`
	// Adopt keeps keys in an object that exists already, while its annotation
	// spv.no/adopt-by names this AzureKeyVaultSecret. What else is in it stays, also
	// when the AzureKeyVaultSecret is deleted. It cannot be immutable.
	// +optional
	Adopt bool `json:"adopt,omitempty"`
}

// ConfigMapOutput describes the ConfigMap.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.adopt) && self.adopt && has(self.immutable) && self.immutable)",message="adopt and immutable exclude each other: what is somebody else's must stay changeable"
type ConfigMapOutput struct {
	// Name of the ConfigMap, in the namespace of the AzureKeyVaultSecret.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
	Name string `json:"name"`
	// DataKey is the key under which the value is kept. The entries of a
	// multi-key-value-secret have their own keys; empty is left out.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]*$')",message="must be letters, digits, '-', '_' and '.'"
	DataKey string `json:"dataKey,omitempty"`

	OutputOptions `json:",inline"`
}

// AzureKeyVaultSecretStatus says what the Controller last made of it.
type AzureKeyVaultSecretStatus struct {
	// Conditions: Ready, Stalled while a person must act, and Valid for an object
	// with a validity.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// ObservedGeneration is the generation of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// ObjectVersion is the version of the vault object in the output.
	// +optional
	ObjectVersion string `json:"objectVersion,omitempty"`
	// Expires is when the vault object expires, if it does.
	// +optional
	Expires *metav1.Time `json:"expires,omitempty"`
	// NotBefore is when the vault object begins to be valid, if it says.
	// +optional
	NotBefore *metav1.Time `json:"notBefore,omitempty"`
	// HandledRefresh is the value of the annotation spv.no/refresh that was last
	// acted upon, its first 64 characters.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	HandledRefresh string `json:"handledRefresh,omitempty"`
	// SecretName is the Secret that was last written.
	// +optional
	SecretName string `json:"secretName,omitempty"`
	// SecretHash is made of the object's version and the spec, never of the value.
	// It changes with them, also where the Secret stays as it is.
	// +optional
	SecretHash string `json:"secretHash,omitempty"`
	// ConfigMapName is the ConfigMap that was last written.
	// +optional
	ConfigMapName string `json:"configMapName,omitempty"`
	// ConfigMapHash is for the ConfigMap what SecretHash is for the Secret.
	// +optional
	ConfigMapHash string `json:"configMapHash,omitempty"`
	// LastAzureUpdate is when the output last changed, or was confirmed with another
	// version of the object.
	// +optional
	LastAzureUpdate *metav1.Time `json:"lastAzureUpdate,omitempty"`
}
