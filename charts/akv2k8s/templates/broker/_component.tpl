{{/* The broker as the helpers of _workload.tpl know it. */}}
{{- define "akv2k8s.broker" -}}
name: broker
http: http
drain: 5
ports:
  https: 9443
  http: 8080
env: |
  - name: CERT_DIR
    value: /etc/azure-keyvault-broker/tls
  - name: ON_VAULT_UNAVAILABLE
    value: {{ .Values.env_injector.onVaultUnavailable }}
  - name: CACHED_MAX_AGE
    value: {{ .Values.env_injector.cachedMaxAge | quote }}
  {{- with .Values.env_injector.execGuard }}
  {{- if .enabled }}
  - name: EXEC_GUARD_START_BUDGET
    value: {{ .startBudget | quote }}
  {{- end }}
  {{- end }}
  {{- include "akv2k8s.reads.env" (dict "root" . "own" .Values.env_injector.keyVaultReads) | nindent 2 }}
# Naming the keys makes the pod wait until the webhook has filled the Secret.
volumes: |
  - name: tls
    secret:
      secretName: {{ include "akv2k8s.fullname" . }}-broker-tls
      defaultMode: 0440
      items:
        - {key: tls.crt, path: tls.crt}
        - {key: tls.key, path: tls.key}
mounts: |
  - name: tls
    mountPath: /etc/azure-keyvault-broker/tls
    readOnly: true
{{- end }}
