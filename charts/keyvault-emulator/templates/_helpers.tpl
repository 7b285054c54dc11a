{{- define "emulator.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- default $full .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "emulator.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "emulator.labels" -}}
{{ include "emulator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "emulator.image" -}}
{{- $repository := .Values.image.repository -}}
{{- with .Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $repository -}}
{{- end -}}
{{- .Values.image.digest | empty | ternary (printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag)) (printf "%s@%s" $repository .Values.image.digest) -}}
{{- end }}

{{- define "emulator.seedSecret" -}}
{{- if .Values.seed.existingSecret -}}
{{ .Values.seed.existingSecret }}
{{- else if .Values.seed.content -}}
{{ include "emulator.fullname" . }}-seed
{{- end -}}
{{- end }}

{{- define "emulator.caSecret" -}}
{{- default (printf "%s-ca" (include "emulator.fullname" .)) .Values.ca.existingSecret -}}
{{- end }}

{{/*
The CA as base64: of the Secret in the cluster, or a new one where the chart keeps
it. Clients are told to trust it, so it must not change with an upgrade. A render
without a cluster (helm template) makes a new one each time. Empty while a Secret
of the user's own cannot be seen.
*/}}
{{- define "emulator.ca" -}}
{{- $live := lookup "v1" "Secret" .Release.Namespace (include "emulator.caSecret" .) -}}
{{- if and $live $live.data -}}
{{- pick $live.data "ca.crt" "ca.key" | toYaml -}}
{{- else if not .Values.ca.existingSecret -}}
{{- $ca := genCAWithKey "keyvault-emulator CA (development only)" 3650 (genPrivateKey "ecdsa") -}}
{{- dict "ca.crt" (b64enc $ca.Cert) "ca.key" (b64enc $ca.Key) | toYaml -}}
{{- end -}}
{{- end }}
