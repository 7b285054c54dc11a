{{/* The webhook as the helpers of _workload.tpl know it. It signs in nowhere. */}}
{{- define "akv2k8s.envInjector" -}}
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
  {{- if .Values.env_injector.workloadWarnings.enabled }}
  - name: ADVICE_CONFIGURATION
    value: {{ $fullname }}-env-injector
  {{- end }}
  - name: BROKER_SERVICE
    value: {{ $fullname }}-broker
  - name: CA_SECRET
    value: {{ $fullname }}-ca
  - name: BROKER_TLS_SECRET
    value: {{ $fullname }}-broker-tls
  - name: AZUREKEYVAULT_ENV_IMAGE
    value: {{ include "akv2k8s.image" (dict "root" . "image" .Values.env_injector.envImage) }}
  - name: WEBHOOK_CONTAINER_IMAGE_PULL_POLICY
    value: {{ .Values.env_injector.envImage.pullPolicy }}
  - name: DOCKER_IMAGE_INSPECTION_TIMEOUT
    value: {{ .Values.env_injector.dockerImageInspection.timeout | quote }}
  {{- range $kind, $amounts := .Values.env_injector.initContainerResources }}
  {{- range $resource, $amount := $amounts }}
  {{- if $amount }}
  - name: WEBHOOK_INIT_CONTAINER_{{ upper $kind }}_{{ upper $resource }}
    value: {{ $amount | quote }}
  {{- end }}
  {{- end }}
  {{- end }}
volumes: ""
mounts: ""
{{- end }}

{{/* Whose objects the webhooks are asked about. */}}
{{- define "akv2k8s.whoseObjects" -}}
{{- $values := .Values.env_injector -}}
namespaceSelector:
  matchExpressions:
    - key: {{ $values.namespaceLabelSelector.label.name }}
      operator: In
      values: [{{ $values.namespaceLabelSelector.label.value | quote }}]
    # The webhook must never wait for itself, nor the cluster for the webhook.
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values: [kube-system, {{ .Release.Namespace }}]
    {{- with $values.namespaceSelector.matchExpressions }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- with $values.objectSelector }}
objectSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
What webhooks that only warn have in common. It ends in the conditions, which the
caller continues.
*/}}
{{- define "akv2k8s.advice" -}}
admissionReviewVersions: [v1]
clientConfig:
  service:
    name: {{ include "akv2k8s.component" (dict "root" . "name" "env-injector") }}
    namespace: {{ .Release.Namespace }}
    path: /workloads
    port: 443
matchPolicy: Equivalent
failurePolicy: Ignore
sideEffects: None
timeoutSeconds: 3
{{ include "akv2k8s.whoseObjects" . }}
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
