{{/*
The webhook as the helpers of _workload.tpl know it. It signs in to no vault: what
controller and broker sign in with never gets here. For registries it may have an
identity of its own.
*/}}
{{- define "akv2k8s.envInjector" -}}
{{- $registry := .Values.env_injector.registry -}}
{{- $identity := $registry.identity -}}
{{- $fullname := include "akv2k8s.fullname" . -}}
name: env-injector
http: http
ports:
  https: 8443
  http: 8080
env: |
  - name: POD_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  - name: WEBHOOK_SERVICE
    value: {{ $fullname }}-env-injector
  - name: WEBHOOK_CONFIGURATION
    value: {{ $fullname }}-env-injector
  {{- if include "akv2k8s.validates" . }}
  - name: ADVICE_CONFIGURATION
    value: {{ $fullname }}-env-injector
  {{- end }}
  - name: CA_SECRET
    value: {{ $fullname }}-ca
  - name: AUTH_SERVICE
    value: {{ .Values.env_injector.authService | quote }}
  {{- if .Values.env_injector.authService }}
  - name: BROKER_SERVICE
    value: {{ $fullname }}-broker
  - name: BROKER_TLS_SECRET
    value: {{ $fullname }}-broker-tls
  - name: AZUREKEYVAULT_ENV_IMAGE
    value: {{ include "akv2k8s.image" (dict "root" . "image" .Values.env_injector.envImage) }}
  - name: WEBHOOK_CONTAINER_IMAGE_PULL_POLICY
    value: {{ .Values.env_injector.envImage.pullPolicy }}
  {{- end }}
  {{- if include "akv2k8s.servesDirect" . }}
  - name: AZUREKEYVAULT_ENV_DIRECT_IMAGE
    value: {{ include "akv2k8s.image" (dict "root" . "image" .Values.env_injector.envDirectImage) }}
  - name: DIRECT_IMAGE_PULL_POLICY
    value: {{ .Values.env_injector.envDirectImage.pullPolicy }}
  {{- range $variable, $value := dict "DIRECT_TENANT_ID" .Values.global.workloadIdentity.tenantId "DIRECT_AZURE_ENVIRONMENT" .Values.global.azureEnvironment "DIRECT_VAULT_DNS_SUFFIX" .Values.global.vaultDnsSuffix }}
  {{- with $value }}
  - name: {{ $variable }}
    value: {{ . | quote }}
  {{- end }}
  {{- end }}
  {{- end }}
  - name: DELIVERY
    value: {{ .Values.env_injector.delivery }}
  {{- with .Values.env_injector.execGuard }}
  {{- if and .enabled .breakGlassGroups }}
  - name: EXEC_GUARD_GROUPS
    value: {{ join "\n" .breakGlassGroups | quote }}
  {{- end }}
  {{- end }}
  - name: DOCKER_IMAGE_INSPECTION_TIMEOUT
    value: {{ .Values.env_injector.dockerImageInspection.timeout | quote }}
  - name: READ_CONFIGMAPS
    value: {{ .Values.env_injector.sources.configMaps | quote }}
  - name: READ_SECRETS
    value: {{ .Values.env_injector.sources.secrets | quote }}
  {{- range $kind, $amounts := .Values.env_injector.initContainerResources }}
  {{- range $resource, $amount := $amounts }}
  {{- if $amount }}
  - name: WEBHOOK_INIT_CONTAINER_{{ upper $kind }}_{{ upper $resource }}
    value: {{ $amount | quote }}
  {{- end }}
  {{- end }}
  {{- end }}
  - name: PULL_SECRETS
    value: {{ .Values.env_injector.pullSecrets.enabled | quote }}
  {{- with .Values.env_injector.pullSecrets.namespaces }}
  - name: PULL_SECRET_NAMESPACES
    value: {{ join "," . | quote }}
  {{- end }}
  - name: IMAGE_TAG_TTL
    value: {{ $registry.tagTTL | quote }}
  - name: REGISTRY_RATE
    value: {{ $registry.rate | quote }}
  - name: REGISTRY_CONCURRENCY
    value: {{ $registry.concurrency | quote }}
  {{- $mirrors := list }}
  {{- range $host, $urls := $registry.mirrors }}
  {{- range $urls }}{{ $mirrors = append $mirrors (printf "%s=%s" $host .) }}{{ end }}
  {{- end }}
  {{- with $mirrors }}
  - name: REGISTRY_MIRRORS
    value: {{ join " " . | quote }}
  {{- end }}
  {{- with $registry.insecureRegistries }}
  - name: INSECURE_REGISTRIES
    value: {{ join "," . | quote }}
  {{- end }}
  {{- with $identity.auth }}
  - name: REGISTRY_AUTH
    value: {{ get (dict "workloadIdentity" "environment-azidentity" "managedIdentity" "environment" "azureCloudConfig" "azureCloudConfig") . }}
  {{- with $.Values.global.azureEnvironment }}
  - name: AZURE_ENVIRONMENT
    value: {{ . | quote }}
  {{- end }}
  {{- end }}
{{- if eq $identity.auth "managedIdentity" }}
  {{- with $identity.clientId }}
  - name: AZURE_CLIENT_ID
    value: {{ . | quote }}
  {{- end }}
volumes: ""
mounts: ""
{{- else if eq $identity.auth "azureCloudConfig" }}
  - name: CLOUD_CONFIG
    value: {{ .Values.cloudConfig | quote }}
nodeFile: true
volumes: |
  - name: cloud-config
    hostPath:
      path: {{ .Values.cloudConfig }}
      type: File
mounts: |
  - name: cloud-config
    mountPath: {{ .Values.cloudConfig }}
    readOnly: true
{{- else if and (eq $identity.auth "workloadIdentity") $identity.projectToken }}
  - name: AZURE_CLIENT_ID
    value: {{ $identity.clientId | quote }}
  - name: AZURE_TENANT_ID
    value: {{ $identity.tenantId | quote }}
  - name: AZURE_FEDERATED_TOKEN_FILE
    value: /var/run/secrets/azure/tokens/azure-identity-token
volumes: |
  - name: azure-identity-token
    projected:
      defaultMode: 0440
      sources:
        - serviceAccountToken:
            audience: api://AzureADTokenExchange
            expirationSeconds: 3600
            path: azure-identity-token
mounts: |
  - name: azure-identity-token
    mountPath: /var/run/secrets/azure/tokens
    readOnly: true
{{- else }}
{{- if eq $identity.auth "workloadIdentity" }}
federated:
  clientId: {{ $identity.clientId | quote }}
  tenantId: {{ $identity.tenantId | quote }}
{{- end }}
volumes: ""
mounts: ""
{{- end }}
{{- end }}

{{/* Whether pods may read their vaults themselves. */}}
{{- define "akv2k8s.servesDirect" -}}
{{- if or (not .Values.env_injector.authService) .Values.env_injector.direct.byNamespaceLabel -}}
true
{{- end -}}
{{- end }}

{{/* Whether there is a ValidatingWebhookConfiguration: "true", or nothing. */}}
{{- define "akv2k8s.validates" -}}
{{- $guard := .Values.env_injector.execGuard -}}
{{- if or .Values.env_injector.workloadWarnings.enabled (and $guard.enabled (or $guard.breakGlassGroups (eq $guard.scope "injected"))) -}}
true
{{- end -}}
{{- end }}

{{/* An expression that says whether who asks may break the glass. */}}
{{- define "akv2k8s.breaksGlass" -}}
has(request.userInfo.groups) && request.userInfo.groups.exists(g, g in {{ .Values.env_injector.execGuard.breakGlassGroups | toRawJson }})
{{- end }}

{{/* Requests that the exec guard is about; "debug" adds those which make containers. */}}
{{- define "akv2k8s.guardedRequests" -}}
- operations: [CONNECT]
  apiGroups: [""]
  apiVersions: [v1]
  resources: [pods/exec, pods/attach]
  scope: Namespaced
{{- if .debug }}
- operations: [UPDATE]
  apiGroups: [""]
  apiVersions: [v1]
  resources: [pods/ephemeralcontainers]
  scope: Namespaced
{{- end }}
{{- end }}

{{/*
The ways in which values come into pods, each with webhooks and a path of its own, so that
the API server knows from a namespace's labels what the webhook need not read:
  prefix  of the names of its webhooks
  below   the usual path
  auth    the operator for the label's value direct; empty asks for no label
*/}}
{{- define "akv2k8s.ways" -}}
{{- if not .Values.env_injector.authService }}
- {prefix: "", below: /direct, auth: ""}
{{- else if .Values.env_injector.direct.byNamespaceLabel }}
- {prefix: "", below: "", auth: NotIn}
- {prefix: direct-, below: /direct, auth: In}
{{- else }}
- {prefix: "", below: "", auth: ""}
{{- end }}
{{- end }}

{{/* Whose objects the webhooks are asked about. Argument: root, auth (see akv2k8s.ways). */}}
{{- define "akv2k8s.whoseObjects" -}}
{{- $values := .root.Values.env_injector -}}
namespaceSelector:
  matchExpressions:
    - key: {{ $values.namespaceLabelSelector.label.name }}
      operator: In
      values: [{{ $values.namespaceLabelSelector.label.value | quote }}]
    # The webhook must never wait for itself, nor the cluster for the webhook.
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values: [kube-system, {{ .root.Release.Namespace }}]
    {{- with .auth }}
    - key: env-injector.spv.no/auth
      operator: {{ . }}
      values: [direct]
    {{- end }}
    {{- with $values.namespaceSelector.matchExpressions }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- with $values.objectSelector }}
objectSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* An expression that says whether container c runs the wrapper. */}}
{{- define "akv2k8s.runsWrapper" -}}
((has(c.command) ? c.command : []) + (has(c.args) ? c.args : [])).exists(w, w == '/azure-keyvault/azure-keyvault-env')
{{- end }}

{{/*
What webhooks that only warn have in common. It ends in the conditions, which the
caller continues. Argument: root, way (see akv2k8s.ways).
*/}}
{{- define "akv2k8s.advice" -}}
admissionReviewVersions: [v1]
clientConfig:
  service:
    name: {{ include "akv2k8s.component" (dict "root" .root "name" "env-injector") }}
    namespace: {{ .root.Release.Namespace }}
    path: /workloads{{ .way.below }}
    port: 443
matchPolicy: Equivalent
failurePolicy: Ignore
sideEffects: None
timeoutSeconds: 3
{{ include "akv2k8s.whoseObjects" (dict "root" .root "auth" .way.auth) }}
matchConditions:
  # What a controller owns had its warnings when its owner was applied.
  - name: is-not-controlled
    expression: >-
      !has(object.metadata.ownerReferences) ||
      !object.metadata.ownerReferences.exists(o, has(o.controller) && o.controller)
{{- end }}

{{/*
An expression that says of parts of an object, "of", whether placeholders may be in
them: they hold one, or name a ConfigMap or Secret whose keys become variables.

It searches their text. Walking them costs some units for each variable, and a legal
pod has so many that the 1,000,000 which one expression may cost do not last; with
failurePolicy Fail such a pod could not be created at all. Searching costs a unit for
10 characters and part, if the part has 10 at most: those below are chosen so. Of a
text so long that three searches might cost too much, nothing is known but that.
With "literal" only those count that the parts hold themselves.
*/}}
{{- define "akv2k8s.mayHold" -}}
{{- $sources := .root.Values.env_injector.sources -}}
{{- $parts := list "@azurekeyv" -}}
{{- if .literal -}}
{{- else if and $sources.configMaps $sources.secrets -}}
{{- $parts = concat $parts (list "KeyRef" "envFrom") -}}
{{- else if $sources.configMaps -}}
{{- $parts = concat $parts (list "MapKeyRef" "configMapR") -}}
{{- else if $sources.secrets -}}
{{- $parts = concat $parts (list "retKeyRef" "secretRef") -}}
{{- end -}}
['%s'.format([[{{ .of }}]])]
.exists(text, text.size() > 3000000 ||
['{{ join "', '" $parts }}'].exists(part, text.contains(part)))
{{- end }}
