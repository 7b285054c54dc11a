{{/*
The objects that every component has. Each helper takes the same dictionary:
  root     the chart's root
  name     the component: controller, env-injector or broker
  values   its values
  logging  values whose logLevel and logFormat outrank the global ones
  signIn   how it signs in to vaults (see _signin.tpl); absent: it does not
  federated  clientId and tenantId of an identity for something else than vaults, whose token another webhook brings
  nodeFile   whether it mounts the node's azure.json for something else than vaults
  env, volumes, mounts  its own of those, as YAML lists
  ports    container ports by name
  drain    seconds to answer still while Services stop sending callers; absent: the process sees to it
  http     name of the port that serves /healthz, /readyz and /metrics
*/}}

{{- define "akv2k8s.deployment" -}}
{{- $root := .root -}}
{{- $values := .values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "akv2k8s.component" . }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "akv2k8s.labels" . | nindent 4 }}
    {{- with $values.labels }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  replicas: {{ $values.replicaCount }}
  {{- with $values.strategy }}
  strategy:
    {{- eq .type "Recreate" | ternary (omit . "rollingUpdate") . | toYaml | nindent 4 }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "akv2k8s.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "akv2k8s.selector" . | nindent 8 }}
        {{- with include "akv2k8s.podLabels" . | fromYaml }}{{ toYaml . | nindent 8 }}{{ end }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .name }}
        {{- include "akv2k8s.restarts" . | nindent 8 }}
        {{- if kindIs "bool" $values.metrics.enabled | ternary $values.metrics.enabled $root.Values.global.metrics.enabled }}
        prometheus.io/scrape: "true"
        prometheus.io/port: {{ get .ports .http | quote }}
        prometheus.io/path: /metrics
        {{- end }}
        {{- with $values.podAnnotations }}{{ toYaml . | nindent 8 }}{{ end }}
    spec:
      {{- include "akv2k8s.podSpec" . | nindent 6 }}
{{- end }}

{{/*
A pod's own labels. Values files of akv2k8s 1.x ask for a token by a label of the Env
Injector's pods; it belongs to the process that signs in, which is the broker.
*/}}
{{- define "akv2k8s.podLabels" -}}
{{- $use := "azure.workload.identity/use" -}}
{{- $labels := .values.podLabels | default dict -}}
{{- if eq .name "broker" -}}
{{- $labels = merge (dict) $labels (pick (default dict .root.Values.env_injector.podLabels) $use) -}}
{{- end -}}
{{- if and .signIn .root.Values.global.workloadIdentity.enabled (not .root.Values.global.workloadIdentity.projectToken) -}}
{{- $labels = merge (dict $use "true") $labels -}}
{{- end -}}
{{- if .federated -}}
{{- $labels = merge (dict $use "true") $labels -}}
{{- end -}}
{{- or .signIn .federated | empty | ternary (omit $labels $use) $labels | toYaml -}}
{{- end }}

{{/*
What a process reads once, when it starts, must replace the pods when it changes.
Variables of ours may be secret, and a hash of them would let anyone who reads pods
check guesses; so each upgrade replaces the pods that have some. The CA bundle is
public. Other mounted files are followed.
*/}}
{{- define "akv2k8s.restarts" -}}
{{- if .signIn -}}
{{- if merge (dict) .signIn.env .root.Values.global.env }}
akv2k8s/release-revision: {{ .root.Release.Revision | quote }}
{{- end -}}
{{- end -}}
{{- with .root.Values.global.caBundle.pem }}
akv2k8s/ca-bundle: {{ trim . | sha256sum }}
{{- end -}}
{{- end }}

{{- define "akv2k8s.podSpec" -}}
{{- $root := .root -}}
{{- $values := .values -}}
serviceAccountName: {{ include "akv2k8s.serviceAccount" . }}
automountServiceAccountToken: true
enableServiceLinks: false
{{- $pullSecrets := $root.Values.global.imagePullSecrets }}
{{- with $values.image.pullSecret }}{{ $pullSecrets = append $pullSecrets (dict "name" .) }}{{ end }}
{{- with $pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default $root.Values.global.priorityClassName $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
terminationGracePeriodSeconds: 40
securityContext:
  {{- include "akv2k8s.podSecurity" . | nindent 2 }}
containers:
  - {{ include "akv2k8s.container" . | nindent 4 | trim }}
{{- with concat (.volumes | fromYamlArray) (include "akv2k8s.signIn.volumes" . | fromYamlArray) (include "akv2k8s.network.volumes" $root | fromYamlArray) $values.extraVolumes }}
volumes:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- if $values.topologySpreadConstraints }}
  {{- toYaml $values.topologySpreadConstraints | nindent 2 }}
{{- else }}
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "akv2k8s.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end }}

{{/*
Restricted, but for one case: the node's azure.json belongs to root and is
readable by root alone, so who mounts it must be root. It still has no capability,
and can therefore read what root owns and nothing else.
*/}}
{{- define "akv2k8s.isRoot" -}}
{{- or .nodeFile (eq (include "akv2k8s.signIn.file" .) "node") | ternary "true" "" -}}
{{- end }}

{{- define "akv2k8s.podSecurity" -}}
{{- $id := include "akv2k8s.isRoot" . | empty | ternary 65532 0 -}}
{{- $context := dict "runAsNonRoot" (ne $id 0) "runAsUser" $id "runAsGroup" $id "fsGroup" 65532 "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- mergeOverwrite $context (default dict .values.podSecurityContext | deepCopy) | toYaml -}}
{{- end }}

{{- define "akv2k8s.containerSecurity" -}}
{{- $context := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) -}}
{{- mergeOverwrite $context (default dict .values.securityContext | deepCopy) | toYaml -}}
{{- end }}

{{- define "akv2k8s.container" -}}
{{- $root := .root -}}
{{- $values := .values -}}
name: {{ .name }}
image: {{ include "akv2k8s.image" (dict "root" $root "image" $values.image) }}
imagePullPolicy: {{ $values.image.pullPolicy }}
env:
  - name: LOG_LEVEL
    value: {{ default $root.Values.global.logLevel .logging.logLevel | quote }}
  - name: LOG_FORMAT
    value: {{ default $root.Values.global.logFormat .logging.logFormat | quote }}
  {{- concat (.env | fromYamlArray) (include "akv2k8s.signIn.env" . | fromYamlArray) (include "akv2k8s.network.env" $root | fromYamlArray) $values.extraEnv | toYaml | nindent 2 }}
{{- if .signIn }}
{{- with concat .signIn.envFromSecret $root.Values.global.envFromSecret }}
envFrom:
  {{- range . }}
  - secretRef:
      name: {{ .name }}
  {{- end }}
{{- end }}
{{- end }}
ports:
  {{- range $name, $port := .ports }}
  - name: {{ $name }}
    containerPort: {{ $port }}
    protocol: TCP
  {{- end }}
livenessProbe:
  {{- mergeOverwrite (dict "httpGet" (dict "path" "/healthz" "port" .http) "periodSeconds" 10 "timeoutSeconds" 5 "failureThreshold" 6) (deepCopy $values.livenessProbe) | toYaml | nindent 2 }}
readinessProbe:
  {{- mergeOverwrite (dict "httpGet" (dict "path" "/readyz" "port" .http) "periodSeconds" 2 "timeoutSeconds" 2 "failureThreshold" 3) (deepCopy $values.readinessProbe) | toYaml | nindent 2 }}
{{- with $values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "akv2k8s.containerSecurity" . | nindent 2 }}
{{- with .drain }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ . }}
{{- end }}
{{- with concat (.mounts | fromYamlArray) (include "akv2k8s.signIn.mounts" . | fromYamlArray) (include "akv2k8s.network.mounts" $root | fromYamlArray) $values.extraVolumeMounts }}
volumeMounts:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Service account, disruption budget and, if wanted, the Secret of variables and the ServiceMonitor. */}}
{{- define "akv2k8s.companions" -}}
{{- $root := .root -}}
{{- $values := .values -}}
{{- $account := include "akv2k8s.account" . | fromYaml }}
{{- if $account.create }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "akv2k8s.serviceAccount" . }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "akv2k8s.labels" . | nindent 4 }}
    {{- with $account.labels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with include "akv2k8s.accountAnnotations" . }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}
{{- $budget := $values.podDisruptionBudget }}
{{- if and $budget.enabled (gt (int $values.replicaCount) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "akv2k8s.component" . }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "akv2k8s.labels" . | nindent 4 }}
spec:
  {{- if not (or (kindIs "invalid" $budget.maxUnavailable) (eq (toString $budget.maxUnavailable) "")) }}
  maxUnavailable: {{ $budget.maxUnavailable }}
  {{- else }}
  minAvailable: {{ $budget.minAvailable }}
  {{- end }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "akv2k8s.selector" . | nindent 6 }}
{{- end }}
{{- if .signIn }}
{{- with merge (dict) .signIn.env $root.Values.global.env }}
---
apiVersion: v1
kind: Secret
metadata:
  name: {{ include "akv2k8s.component" $ }}-env
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "akv2k8s.labels" $ | nindent 4 }}
type: Opaque
stringData:
  {{- range $key, $value := . }}
  {{ $key }}: {{ $value | toString | quote }}
  {{- end }}
{{- end }}
{{- end }}
{{- $monitor := $root.Values.global.metrics.serviceMonitor }}
{{- $own := $values.metrics.serviceMonitor }}
{{- if kindIs "bool" $own.enabled | ternary $own.enabled $monitor.enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "akv2k8s.component" . }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "akv2k8s.labels" . | nindent 4 }}
    {{- with mergeOverwrite (deepCopy $monitor.additionalLabels) (default dict $own.additionalLabels) }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  selector:
    matchLabels:
      {{- include "akv2k8s.selector" . | nindent 6 }}
  endpoints:
    - port: {{ .http }}
      path: /metrics
      interval: {{ default $monitor.interval $own.interval }}
{{- end }}
{{- end }}

{{- define "akv2k8s.accountAnnotations" -}}
{{- $annotations := get (include "akv2k8s.account" . | fromYaml) "annotations" | default dict -}}
{{- $identity := .root.Values.global.workloadIdentity -}}
{{- if and .signIn $identity.enabled -}}
{{- with $identity.clientId }}{{ $annotations = merge $annotations (dict "azure.workload.identity/client-id" .) }}{{ end -}}
{{- with $identity.tenantId }}{{ $annotations = merge $annotations (dict "azure.workload.identity/tenant-id" .) }}{{ end -}}
{{- end -}}
{{- with .federated -}}
{{- with .clientId }}{{ $annotations = merge $annotations (dict "azure.workload.identity/client-id" .) }}{{ end -}}
{{- with .tenantId }}{{ $annotations = merge $annotations (dict "azure.workload.identity/tenant-id" .) }}{{ end -}}
{{- end -}}
{{- with $annotations }}{{ toYaml . }}{{ end -}}
{{- end }}
