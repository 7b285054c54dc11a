#!/bin/bash
# Checks, on the running cluster, each thing that the end-to-end tests need.
# shellcheck disable=SC2016 # single-quoted programs are for the pods' shells
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/config.sh"
require_machine
node_pid >/dev/null || die "is not up; make cluster-up starts it"
k() { timeout 90 "$HERE/kubectl" -n proof "$@"; }
passed=0 failed=0
check() { # check WHAT EXPECTED-REGEXP COMMAND...
	local what=$1 want=$2 t0=${EPOCHREALTIME/[.,]/} out ms; shift 2
	out=$("$@" 2>&1 </dev/null)
	ms=$(((${EPOCHREALTIME/[.,]/} - t0) / 1000))
	if [[ $out =~ $want ]]; then
		passed=$((passed + 1))
		printf 'ok   %-58s %3d.%02ds  %.90s\n' "$what" $((ms / 1000)) $((ms % 1000 / 10)) "${out//$'\n'/ | }"
	else
		failed=$((failed + 1))
		printf 'FAIL %s\n     want %s\n     got  %.1500s\n' "$what" "$want" "$out"
	fi
}
eventually() { # eventually COMMAND...: retried for 20 s until it prints something
	local out
	for _ in $(seq 40); do
		out=$("$@" 2>/dev/null) && [[ -n $out ]] && break
		sleep 0.5
	done
	printf '%s\n' "$out"
}

# What an earlier, interrupted check left.
"$HERE/kubectl" delete --ignore-not-found --wait=false mutatingwebhookconfiguration/hook crd/widgets.proof.example >/dev/null 2>&1
"$HERE/kubectl" delete namespace proof --ignore-not-found --timeout=60s >/dev/null 2>&1

"$HERE/kubectl" create namespace proof >/dev/null
"$HERE/push" -entrypoint /kit proof/kit:1 "$RUN/bin/kit=/kit" >/dev/null
k create serviceaccount worker >/dev/null

k apply -f - >/dev/null <<'EOF'
apiVersion: v1
kind: Pod
metadata: {name: one, labels: {app: one}}
spec:
  serviceAccountName: worker
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: copy
    image: registry.localhost:5000/busybox:1
    command: [/bin/cp, /bin/busybox, /tools/busybox]
    volumeMounts: [{name: tools, mountPath: /tools}]
  containers:
  - name: main
    image: any.example/proof/kit:1          # holds /kit alone: no shell of its own
    command: [/tools/busybox, sh, -c, 'echo main ran the copied tool; exec /tools/busybox httpd -f -p 8080 -h /tools']
    resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
    securityContext: {runAsNonRoot: true, runAsUser: 1000, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
    readinessProbe: {httpGet: {path: /busybox, port: 8080}, periodSeconds: 1}
    volumeMounts:
    - {name: tools, mountPath: /tools}
    - {name: token, mountPath: /token}
  volumes:
  - {name: tools, emptyDir: {medium: Memory, sizeLimit: 16Mi}}
  - name: token
    projected: {sources: [{serviceAccountToken: {audience: vault, expirationSeconds: 600, path: token}}]}
---
apiVersion: v1
kind: Service
metadata: {name: one}
spec: {selector: {app: one}, ports: [{port: 80, targetPort: 8080}]}
EOF
check "pod with an init container becomes ready" 'condition met' k wait --for=condition=Ready pod/one --timeout=60s
check "logs" 'main ran the copied tool' k logs one -c main
check "exec" '^1000' k exec one -c main -- /tools/busybox id -u
check "emptyDir is a tmpfs" 'tmpfs on /tools' k exec one -c main -- /tools/busybox sh -c '/tools/busybox mount | /tools/busybox grep " /tools "'
check "exec with stdin" 'hello' bash -c "echo hello | '$HERE/kubectl' -n proof exec -i one -c main -- /tools/busybox cat"

# tokens
token=$(k exec one -c main -- /tools/busybox cat /token/token)
claims() { cut -d. -f2 <<<"$1" | tr '_-' '/+' | awk '{while(length($0)%4)$0=$0"=";print}' | base64 -d; }
check "projected token is bound to audience and pod" '"aud":\["vault"\].*"pod":\{"name":"one"' claims "$token"
review() { printf '{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"%s","audiences":["%s"]}}' "$token" "$1" | k create -o jsonpath='{.status.authenticated} {.status.error} {.status.user.username}' -f -; }
check "TokenReview accepts it for its audience" '^true .*serviceaccount:proof:worker' review vault
check "TokenReview refuses it for another" 'token audiences .* is invalid' review other
api=https://10.96.0.1/api/v1/namespaces/proof/pods
check "API server refuses that token (in-pod, service IP)" '401 Unauthorized' k exec one -c main -- /kit get -token /token/token $api
check "RBAC denies the default token" '403 Forbidden' k exec one -c main -- /kit get $api
k create role reader --verb=get,list --resource=pods >/dev/null
k create rolebinding reader --role=reader --serviceaccount=proof:worker >/dev/null
check "RBAC allows it once bound" '200 OK.*PodList' k exec one -c main -- /kit get $api
# Not "kubectl run -i": output of a short-lived container is lost at times.
k run client --image=registry.localhost:5000/busybox:1 --restart=Never --command -- \
	sh -c 'wget -q -O /tmp/busybox "http://$ONE_SERVICE_HOST/busybox" && chmod +x /tmp/busybox && /tmp/busybox | head -1' >/dev/null
k wait --for=jsonpath='{.status.phase}'=Succeeded pod/client --timeout=20s >/dev/null
check "service IP from another pod" 'BusyBox' k logs client
check "service IP from the host" '200' "$HERE/run" curl -s -o /dev/null -w '%{http_code}' "http://$(k get svc one -o jsonpath='{.spec.clusterIP}')/busybox"

# CRD with CEL
k apply -f - >/dev/null <<'EOF'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.proof.example}
spec:
  group: proof.example
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties: {min: {type: integer}, max: {type: integer}}
            x-kubernetes-validations:
            - {rule: 'self.min <= self.max', message: 'min must not exceed max'}
EOF
k wait --for=condition=Established crd/widgets.proof.example --timeout=20s >/dev/null
widget() { printf 'apiVersion: proof.example/v1\nkind: Widget\nmetadata: {name: w%s%s}\nspec: {min: %s, max: %s}\n' "$1" "$2" "$1" "$2" | k apply -f -; }
check "CEL accepts a valid object" 'created' widget 1 2
check "CEL refuses an invalid one" 'min must not exceed max' widget 2 1

# mutating webhook, in a pod behind a service
"$RUN/bin/kit" certificate -dir "$RUN/pki" -out "$RUN/pki" hook hook.proof.svc
k create secret tls hook --cert="$RUN/pki/hook.crt" --key="$RUN/pki/hook.key" >/dev/null
k apply -f - >/dev/null <<EOF
apiVersion: apps/v1
kind: Deployment
metadata: {name: hook}
spec:
  selector: {matchLabels: {app: hook}}
  template:
    metadata: {labels: {app: hook}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: hook
        image: any.example/proof/kit:1
        args: [webhook]
        readinessProbe: {httpGet: {path: /healthz, port: 8443, scheme: HTTPS}, periodSeconds: 1}
        volumeMounts: [{name: tls, mountPath: /tls}]
      volumes: [{name: tls, secret: {secretName: hook}}]
---
apiVersion: v1
kind: Service
metadata: {name: hook}
spec: {selector: {app: hook}, ports: [{port: 443, targetPort: 8443}]}
EOF
check "deployment rolls out (controller-manager, scheduler)" 'successfully rolled out' k rollout status deployment/hook --timeout=60s
k apply -f - >/dev/null <<EOF
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: hook}
webhooks:
- name: hook.proof.example
  clientConfig: {service: {namespace: proof, name: hook, path: /mutate}, caBundle: $(base64 -w0 "$RUN/pki/ca.crt")}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  objectSelector: {matchLabels: {inject: "true"}}
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
EOF
two='
apiVersion: v1
kind: Pod
metadata: {name: two, labels: {inject: "true"}}
spec:
  restartPolicy: Never
  containers: [{name: main, image: any.example/proof/kit:1, command: [/injected/busybox, echo, the injected tool ran]}]
'
# The service's address and the webhook take a moment to be in force.
would_inject() { k apply --dry-run=server -o 'jsonpath={.spec.initContainers[*].name}' -f - <<<"$two"; }
eventually would_inject >/dev/null
k apply -f - <<<"$two" >/dev/null
check "webhook injected an init container" 'injected' k get pod two -o 'jsonpath={.spec.initContainers[*].name}'
check "the mutated pod succeeds" 'condition met' k wait --for=jsonpath='{.status.phase}'=Succeeded pod/two --timeout=60s
check "and ran what the init container left" 'the injected tool ran' k logs two -c main

# image volume (KEP-4639)
k apply -f - >/dev/null <<'EOF'
apiVersion: v1
kind: Pod
metadata: {name: three}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: any.example/proof/kit:1
    command: [/tools/busybox, echo, ran from an image volume]
    volumeMounts: [{name: tools, mountPath: /tools, subPath: bin, readOnly: true}]
  volumes: [{name: tools, image: {reference: "registry.localhost:5000/busybox:1", pullPolicy: IfNotPresent}}]
EOF
check "pod with an image volume succeeds" 'condition met' k wait --for=jsonpath='{.status.phase}'=Succeeded pod/three --timeout=30s
check "and ran from it" 'ran from an image volume' k logs three

forwarded() {
	"$HERE/kubectl" -n proof port-forward pod/one 18080:8080 >/dev/null 2>&1 &
	local forward=$!
	eventually "$HERE/run" curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:18080/busybox
	kill "$forward"
}
check "port-forward" '200' forwarded
k debug one --image=registry.localhost:5000/busybox:1 --target=main --container=dbg --quiet -- sh -c 'ps | grep -q "[h]ttpd" && echo sees the target; sleep 20' >/dev/null
k wait --for=jsonpath='{.status.ephemeralContainerStatuses[0].state.running}' pod/one --timeout=20s >/dev/null
check "ephemeral debug container shares the target's processes" 'sees the target' eventually k logs one -c dbg
k run bad --image=registry.localhost:5000/none:1 --restart=Never >/dev/null
k wait --for=jsonpath='{.status.containerStatuses[0].state.waiting.reason}'=ErrImagePull pod/bad --timeout=20s >/dev/null 2>&1
check "an image that does not exist is told" 'ErrImagePull|ImagePullBackOff' \
	k get pod bad -o 'jsonpath={.status.containerStatuses[0].state.waiting.reason}'
container=$(k get pod one -o 'jsonpath={.status.containerStatuses[0].containerID}')
known() { "$HERE/run" --node ctr --address /run/containerd/containerd.sock -n k8s.io containers ls -q 2>/dev/null | grep -c "^${container#containerd://}\$"; }
before=$(known)
check "pod deletion" 'deleted' k delete pod one --timeout=30s
check "and its container is gone" '^1 before, 0 after$' bash -c "echo '$before before, $(known) after'"
k delete mutatingwebhookconfiguration/hook crd/widgets.proof.example >/dev/null 2>&1
check "namespace deletion" 'deleted' "$HERE/kubectl" delete namespace proof --timeout=60s
echo "$passed passed, $failed failed"
((failed == 0))
