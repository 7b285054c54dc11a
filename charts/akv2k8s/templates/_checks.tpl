{{/*
Refusals, each a sentence that says what to do. They run with the template that
they protect.
*/}}

{{/* A CRD that Helm does not know to be this release's would end the installation with a remark about labels. */}}
{{- define "akv2k8s.refuseForeignCRD" -}}
{{- $release := .root.Release -}}
{{- with lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" .name -}}
{{- $annotations := default dict .metadata.annotations -}}
{{- $owner := get $annotations "meta.helm.sh/release-name" -}}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" -}}
{{- $mine := and (eq $owner $release.Name) (eq $namespace $release.Namespace) (eq (get (default dict .metadata.labels) "app.kubernetes.io/managed-by") "Helm") -}}
{{- if not $mine -}}
{{- $patch := printf `{"metadata":{"labels":{"app.kubernetes.io/managed-by":"Helm"},"annotations":{"meta.helm.sh/release-name":"%s","meta.helm.sh/release-namespace":"%s"}}}` $release.Name $release.Namespace -}}
{{- $who := empty $owner | ternary "did not come from this release" (printf "belongs to release %s of namespace %s" $owner $namespace) -}}
{{- printf "\n\nThe CRD %s is in the cluster already and %s. To let this release keep it up to date, run\n\n  kubectl patch crd %s --type merge -p '%s'\n\nand repeat what you did (existing objects are not touched); or repeat it with --take-ownership --set crds.adopt=true; or, where another release shall go on caring for the CRD, with --set crds.install=false.\n" $.name $who $.name $patch | fail -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
A Deployment's selector can never change, and that of akv2k8s 1.x, which has the same
name, is another one. helm would learn it half-way through the upgrade.
*/}}
{{- define "akv2k8s.refuseOldDeployment" -}}
{{- $name := include "akv2k8s.component" . -}}
{{- $namespace := .root.Release.Namespace -}}
{{- with lookup "apps/v1" "Deployment" $namespace $name -}}
{{- if ne (dig "spec" "selector" "matchLabels" "app.kubernetes.io/component" "" .) $.name -}}
{{- printf "\n\nDeployment %s of namespace %s is not of this chart, and Kubernetes would not let it become so. Nothing but the Controller runs in it; outputs stay while it is away. Run\n\n  kubectl delete deployment %s --namespace %s\n\nand repeat what you did.\n" $name $namespace $name $namespace | fail -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "akv2k8s.refuseContradictions" -}}
{{- $values := .Values -}}
{{- $injector := $values.env_injector -}}
{{- $identity := $values.global.workloadIdentity -}}
{{- if and (not $values.controller.enabled) (not $injector.enabled) -}}
{{- fail "\n\nNothing to install: set controller.enabled or env_injector.enabled." -}}
{{- end -}}
{{- include "akv2k8s.refuseSharedAccounts" . -}}
{{- range $key, $image := dict "controller.image" $values.controller.image "env_injector.image" $injector.image "env_injector.envImage" $injector.envImage "env_injector.envDirectImage" $injector.envDirectImage "env_injector.broker.image" $injector.broker.image -}}
{{- $host := regexFind "^[^/]*[.:][^/]*/" $image.repository -}}
{{- if and $host $values.global.imageRegistry -}}
{{- printf "\n\n%s.repository starts with a registry, %s, and so does global.imageRegistry, %s. Name the registry in global.imageRegistry alone, or set that to \"\"." $key (trimSuffix "/" $host) $values.global.imageRegistry | fail -}}
{{- end -}}
{{- end -}}
{{- if and $identity.enabled $identity.projectToken (not $identity.tenantId) -}}
{{- fail "\n\nglobal.workloadIdentity.projectToken needs global.workloadIdentity.tenantId." -}}
{{- end -}}
{{- with $injector.registry.identity -}}
{{- if and .projectToken (ne .auth "workloadIdentity") -}}
{{- fail "\n\nenv_injector.registry.identity.projectToken is for env_injector.registry.identity.auth=workloadIdentity." -}}
{{- end -}}
{{- if and .projectToken (not (and .clientId .tenantId)) -}}
{{- fail "\n\nenv_injector.registry.identity.projectToken needs clientId and tenantId beside it." -}}
{{- end -}}
{{- end -}}
{{- if and $values.cloudConfigFrom.secret.name $values.cloudConfigFrom.configMap.name -}}
{{- fail "\n\nSet one of cloudConfigFrom.secret.name and cloudConfigFrom.configMap.name, not both." -}}
{{- end -}}
{{- end }}

{{/* Who shares an account has the rights of all who use it: broker and webhook shall have none on Secrets. */}}
{{- define "akv2k8s.refuseSharedAccounts" -}}
{{- $injector := .Values.env_injector -}}
{{- $bound := list -}}
{{- if and .Values.controller.enabled .Values.controller.rbac.create -}}
{{- $bound = append $bound (dict "name" "controller" "key" "controller.serviceAccount") -}}
{{- end -}}
{{- if and $injector.enabled $injector.rbac.create -}}
{{- if $injector.authService -}}
{{- $bound = append $bound (dict "name" "broker" "key" "env_injector.serviceAccount") -}}
{{- end -}}
{{- $bound = append $bound (dict "name" "env-injector" "key" "env_injector.webhook.serviceAccount") -}}
{{- end -}}
{{- $seen := dict -}}
{{- range .Values.global.rbac.create | ternary $bound list -}}
{{- $account := include "akv2k8s.serviceAccount" (dict "root" $ "name" .name) -}}
{{- if hasKey $seen $account -}}
{{- printf "\n\n%s and %s are one account, %s: each would have the rights of both. Name two; a second federated credential in Azure can trust the other." (get $seen $account) .key $account | fail -}}
{{- end -}}
{{- $_ := set $seen $account .key -}}
{{- end -}}
{{- end }}
