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

{{/*
An expression that says of parts of an object, "of", whether placeholders may be in
them: they hold one, or name a ConfigMap or Secret whose keys become variables.

It searches their text. Walking them costs some units for each variable, and a legal
pod has so many that the 1,000,000 which one expression may cost do not last; with
failurePolicy Fail such a pod could not be created at all. Searching costs a unit for
10 characters and part, if the part has 10 at most: those below are chosen so. Of a
text so long that three searches might cost too much, nothing is known but that.
*/}}
{{- define "akv2k8s.mayHold" -}}
{{- $sources := .root.Values.env_injector.sources -}}
{{- $parts := list "@azurekeyv" -}}
{{- if and $sources.configMaps $sources.secrets -}}
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
