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
  - name: DELIVERY
    value: {{ .Values.env_injector.delivery }}
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
volumes: ""
mounts: ""
{{- end }}
