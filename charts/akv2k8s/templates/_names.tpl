{{/* Names and labels. Every name starts with akv2k8s.fullname. */}}

{{- define "akv2k8s.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Uncut: service accounts may have long names, and are known to others. */}}
{{- define "akv2k8s.longname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name -}}
{{- end -}}
{{- end }}

{{/* At most 40 characters, so that the longest suffix still fits a label value. */}}
{{- define "akv2k8s.fullname" -}}
{{- include "akv2k8s.longname" . | trunc 40 | trimSuffix "-" -}}
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

{{/*
Values of a component's service account. Argument: root, name. Those of the broker,
which reads the vaults for pods, are at env_injector.serviceAccount, where the chart
of akv2k8s 1.x has the account that does so.
*/}}
{{- define "akv2k8s.account" -}}
{{- $injector := .root.Values.env_injector -}}
{{- get (dict "controller" .root.Values.controller.serviceAccount "broker" $injector.serviceAccount "env-injector" $injector.webhook.serviceAccount) .name | toYaml -}}
{{- end }}

{{/*
Name of a component's service account. Argument: root, name. Federated credentials
in Azure name the accounts of controller and broker: their default names are those
of akv2k8s 1.x, and can never change.
*/}}
{{- define "akv2k8s.serviceAccount" -}}
{{- $account := include "akv2k8s.account" . | fromYaml -}}
{{- if $account.create -}}
{{- $suffix := get (dict "controller" "controller" "broker" "envinjector" "env-injector" "webhook") .name -}}
{{- $account.name | default (printf "%s-%s" (include "akv2k8s.longname" .root) $suffix | trunc 63 | trimSuffix "-") -}}
{{- else -}}
{{- default "default" $account.name -}}
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
