{{/* Proxy and certificate authorities, the same for all pods. Argument: the root. */}}

{{- define "akv2k8s.network.env" -}}
{{- $proxy := .Values.global.proxy -}}
{{- if or $proxy.http $proxy.https -}}
{{- with $proxy.http }}
- name: HTTP_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with $proxy.https }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
{{- end }}
- name: NO_PROXY
  value: {{ prepend (get $proxy "no" | list | compact) "$(KUBERNETES_SERVICE_HOST),localhost,127.0.0.1,.svc,.cluster.local" | join "," | quote }}
{{- end }}
{{- if include "akv2k8s.network.caConfigMap" . }}
- name: CA_BUNDLE
  value: /etc/azure-keyvault/ca/ca.crt
{{- end }}
{{- end }}

{{- define "akv2k8s.network.caConfigMap" -}}
{{- if .Values.global.caBundle.configMap.name -}}
{{ .Values.global.caBundle.configMap.name }}
{{- else if .Values.global.caBundle.pem -}}
{{ include "akv2k8s.fullname" . }}-ca-bundle
{{- end -}}
{{- end }}

{{- define "akv2k8s.network.volumes" -}}
{{- $given := .Values.global.caBundle.configMap -}}
{{- with include "akv2k8s.network.caConfigMap" . }}
- name: ca-bundle
  configMap:
    name: {{ . }}
    items: [{key: {{ $given.name | empty | ternary "ca.crt" $given.key | quote }}, path: ca.crt}]
{{- end }}
{{- end }}

{{- define "akv2k8s.network.mounts" -}}
{{- if include "akv2k8s.network.caConfigMap" . }}
- name: ca-bundle
  mountPath: /etc/azure-keyvault/ca
  readOnly: true
{{- end }}
{{- end }}
