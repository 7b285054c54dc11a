{{/* The Controller as the helpers of _workload.tpl know it, as YAML without the root. */}}
{{- define "akv2k8s.controller" -}}
name: controller
http: metrics
ports:
  metrics: 9000
env: |
  - name: RUNTIME_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  - name: WATCH_ALL_NAMESPACES
    value: {{ .Values.watchAllNamespaces | quote }}
  - name: AZURE_RESYNC_PERIOD
    value: {{ .Values.azureKeyVaultResyncPeriod | quote }}
  - name: MIN_REFRESH_INTERVAL
    value: {{ .Values.controller.minRefreshInterval | quote }}
  - name: EXPIRY_WARNING
    value: {{ .Values.controller.expiryWarning | quote }}
  - name: STALE_AFTER
    value: {{ .Values.controller.staleAfter | quote }}
  - name: STATUS_RATE
    value: {{ .Values.controller.statusRate | quote }}
  {{- with .Values.controller.eventQueue }}
  {{- if .url }}
  - name: EVENT_QUEUE
    value: {{ .url | quote }}
  - name: EVENT_POLL_INTERVAL
    value: {{ .pollInterval | quote }}
  - name: EVENT_RESYNC_PERIOD
    value: {{ .resyncPeriod | quote }}
  {{- end }}
  {{- end }}
  {{- include "akv2k8s.reads.env" (dict "root" . "own" .Values.controller.keyVaultReads) | nindent 2 }}
  - name: LEADER_ELECTION_ID
    value: {{ include "akv2k8s.fullname" . }}-controller
  {{- with .Values.controller.objectLabels }}
  - name: OBJECT_LABELS
    value: {{ . | quote }}
  {{- end }}
volumes: ""
mounts: ""
{{- end }}
