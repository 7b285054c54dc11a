{{/*
How controller and broker sign in to Azure. Each helper takes root, name and
signIn: a dictionary of keyVaultAuth, env and envFromSecret (what belongs to the
component). Without signIn, a component does not sign in, and all of them yield
nothing.
*/}}

{{- define "akv2k8s.signIn.method" -}}
{{- if not .signIn -}}
{{- else if .root.Values.global.workloadIdentity.enabled -}}
environment-azidentity
{{- else -}}
{{- default .root.Values.global.keyVaultAuth .signIn.keyVaultAuth -}}
{{- end -}}
{{- end }}

{{/* Where azure.json comes from: node, secret, configMap, generated, or nothing when it is not read. */}}
{{- define "akv2k8s.signIn.file" -}}
{{- if and .signIn (eq (include "akv2k8s.signIn.method" .) "azureCloudConfig") -}}
{{- if .root.Values.cloudConfigFrom.secret.name -}} secret
{{- else if .root.Values.cloudConfigFrom.configMap.name -}} configMap
{{- else if .root.Values.global.userDefinedMSI.enabled -}} generated
{{- else -}} node
{{- end -}}
{{- end -}}
{{- end }}

{{/* A file on the node is mounted where it is; any other is in a directory of ours, so that its changes are seen. */}}
{{- define "akv2k8s.signIn.path" -}}
{{- if eq (include "akv2k8s.signIn.file" .) "node" -}}
{{ .root.Values.cloudConfig }}
{{- else -}}
/etc/azure-keyvault/cloud/azure.json
{{- end -}}
{{- end }}

{{- define "akv2k8s.signIn.clientId" -}}
{{- $annotations := get (include "akv2k8s.account" . | fromYaml) "annotations" | default dict -}}
{{- default .root.Values.global.workloadIdentity.clientId (get $annotations "azure.workload.identity/client-id") -}}
{{- end }}

{{- define "akv2k8s.signIn.env" -}}
{{- if .signIn -}}
{{- $global := .root.Values.global -}}
- name: AUTH_TYPE
  value: {{ include "akv2k8s.signIn.method" . }}
{{- if include "akv2k8s.signIn.file" . }}
- name: CLOUD_CONFIG
  value: {{ include "akv2k8s.signIn.path" . }}
{{- end }}
{{- with $global.azureEnvironment }}
- name: AZURE_ENVIRONMENT
  value: {{ . | quote }}
{{- end }}
{{- with $global.vaultDnsSuffix }}
- name: VAULT_DNS_SUFFIX
  value: {{ . | quote }}
{{- end }}
{{- if and $global.workloadIdentity.enabled $global.workloadIdentity.projectToken }}
- name: AZURE_CLIENT_ID
  value: {{ include "akv2k8s.signIn.clientId" . | quote }}
- name: AZURE_TENANT_ID
  value: {{ $global.workloadIdentity.tenantId | quote }}
- name: AZURE_FEDERATED_TOKEN_FILE
  value: /var/run/secrets/azure/tokens/azure-identity-token
{{- end }}
{{- $secret := printf "%s-env" (include "akv2k8s.component" .) }}
{{- range $key := keys (merge (dict) .signIn.env $global.env) | sortAlpha }}
- name: {{ $key }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ $key }}
{{- end }}
{{- end }}
{{- end }}

{{- define "akv2k8s.signIn.volumes" -}}
{{- $file := include "akv2k8s.signIn.file" . -}}
{{- $from := .root.Values.cloudConfigFrom -}}
{{- if eq $file "node" }}
- name: cloud-config
  hostPath:
    path: {{ .root.Values.cloudConfig }}
    type: File
{{- else if eq $file "secret" }}
- name: cloud-config
  secret:
    secretName: {{ $from.secret.name }}
    defaultMode: 0440
    items: [{key: {{ $from.secret.key | quote }}, path: azure.json}]
{{- else if eq $file "configMap" }}
- name: cloud-config
  configMap:
    name: {{ $from.configMap.name }}
    items: [{key: {{ $from.configMap.key | quote }}, path: azure.json}]
{{- else if eq $file "generated" }}
- name: cloud-config
  configMap:
    name: {{ include "akv2k8s.fullname" .root }}-azure-json
    items: [{key: azure.json, path: azure.json}]
{{- end }}
{{- with .root.Values.global.workloadIdentity }}
{{- if and $.signIn .enabled .projectToken }}
- name: azure-identity-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          audience: api://AzureADTokenExchange
          expirationSeconds: 3600
          path: azure-identity-token
{{- end }}
{{- end }}
{{- end }}

{{- define "akv2k8s.signIn.mounts" -}}
{{- with include "akv2k8s.signIn.file" . }}
- name: cloud-config
  mountPath: {{ eq . "node" | ternary $.root.Values.cloudConfig "/etc/azure-keyvault/cloud" }}
  readOnly: true
{{- end }}
{{- with .root.Values.global.workloadIdentity }}
{{- if and $.signIn .enabled .projectToken }}
- name: azure-identity-token
  mountPath: /var/run/secrets/azure/tokens
  readOnly: true
{{- end }}
{{- end }}
{{- end }}

{{/* How the vaults are spared. Argument: root, own (the component's keyVaultReads; an empty one is the global). */}}
{{- define "akv2k8s.reads.env" -}}
{{- $own := .own -}}
{{- $global := .root.Values.global.keyVaultReads -}}
{{- range $key, $variable := dict "shareWindow" "SHARE_WINDOW" "rate" "VAULT_RATE" "burst" "VAULT_BURST" }}
- name: {{ $variable }}
  value: {{ eq (get $own $key | toString) "" | ternary (get $global $key) (get $own $key) | quote }}
{{- end }}
{{- end }}
