{{/* Names and labels. Every name starts with akv2k8s.fullname. */}}

{{- define "akv2k8s.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* At most 40 characters, so that the longest suffix still fits a label value. */}}
{{- define "akv2k8s.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "akv2k8s.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Name of a component's objects. Argument: root, name. */}}
{{- define "akv2k8s.component" -}}
{{ include "akv2k8s.fullname" .root }}-{{ .name }}
{{- end }}

{{/* What a Deployment and its Services, budgets and spreading select by. It can never change. */}}
{{- define "akv2k8s.selector" -}}
app.kubernetes.io/name: {{ include "akv2k8s.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "akv2k8s.labels" -}}
{{ include "akv2k8s.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: akv2k8s
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Name of a component's service account. Argument: root, name, values. */}}
{{- define "akv2k8s.serviceAccount" -}}
{{- if .values.serviceAccount.create -}}
{{- default (include "akv2k8s.component" .) .values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* An image's reference. Argument: root, image. */}}
{{- define "akv2k8s.image" -}}
{{- $repository := .image.repository -}}
{{- with .root.Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $repository -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end }}
