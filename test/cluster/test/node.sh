#!/bin/bash
# Tests what the product and its tests rely on beyond the cluster's own check:
# names, the registry, the issuer's keys, the node's files. Uses a cluster that
# is up, or starts one for itself.
# shellcheck source-path=SCRIPTDIR
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../config.sh"
. "$here/expect.sh"
require_machine
if [[ -z $(node_pid) ]]; then
	trap '"$HERE/down.sh"' EXIT
	"$HERE/up.sh" >/dev/null || exit 1
fi
k() { timeout 90 "$HERE/kubectl" -n node-test "$@"; }
"$HERE/kubectl" delete namespace node-test --ignore-not-found --timeout=60s >/dev/null 2>&1
"$HERE/kubectl" create namespace node-test >/dev/null
"$HERE/push" -entrypoint '["/kit", "image"]' -cmd "a b" -user 65532:65532 -env COLOUR=green -workdir /w -platform linux/arm64 \
	node-test/config:1 "$RUN/bin/kit=/kit" >/dev/null
"$HERE/push" -entrypoint /kit node-test/kit:1 "$RUN/bin/kit=/kit" "$RUN/bin/busybox=/busybox" >/dev/null
"$HERE/run" --node sh -c 'cat >/etc/kubernetes/node-test.json' <<<'{"tenantId": "node-test"}'

k apply -f - >/dev/null <<EOF
apiVersion: v1
kind: Pod
metadata: {name: probe, labels: {app: probe}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: $REGISTRY/node-test/kit:1
    command: [/busybox, httpd, -f, -p, "8080", -h, /]
    volumeMounts: [{name: azure, mountPath: /azure.json}]
  volumes: [{name: azure, hostPath: {path: /etc/kubernetes/node-test.json, type: File}}]
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: $REGISTRY/node-test/kit:1, command: [/busybox, sleep, "1000"]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: probe}, ports: [{port: 80, targetPort: 8080}]}
EOF
k wait --for=condition=Ready pod/probe pod/host --timeout=60s >/dev/null
in_pod() { k exec probe -- "$@" 2>&1; }
on_host() { k exec host -- "$@" 2>&1; }
ip=$(k get service web -o jsonpath='{.spec.clusterIP}')

config='"config":\{"Cmd":\["a","b"\],"Entrypoint":\["/kit","image"\],"Env":\["PATH=[^"]*","COLOUR=green"\],"User":"65532:65532","WorkingDir":"/w"\}'
configured() { [[ $1 =~ \"architecture\":\"arm64\" && $1 =~ $config ]] && echo configured || echo "$1"; }
for name in $REGISTRY ${REGISTRY%:*} $NODE_IP:5000; do
	expect "a pod reads an image's configuration at $name" configured "$(configured "$(in_pod /kit image "$name/node-test/config:1")")"
done
expect "so does a command in the cluster's network" configured "$(configured "$("$HERE/run" kit image $REGISTRY/node-test/config:1)")"

address() { sed -n '/^$/,$s/^Address: *//p' <<<"$1"; } # nslookup's answer, after the server's own address
unknown() { grep -o NXDOMAIN <<<"$1" | head -1; }
expect "a pod resolves a service" "$ip" "$(address "$(in_pod /busybox nslookup -type=a web.node-test.svc.cluster.local)")"
expect "and one by its short name" '{"tenantId": "node-test"}' "$(in_pod /busybox wget -q -O - http://web/azure.json)"
expect "nobody asks outside" NXDOMAIN "$(unknown "$(in_pod /busybox nslookup -type=a www.example.org)")"
expect "the node's own DNS knows no cluster names" NXDOMAIN \
	"$(unknown "$(on_host /busybox nslookup -type=a web.node-test.svc.cluster.local)")"
expect "but the registry" $NODE_IP "$(address "$(on_host /busybox nslookup -type=a ${REGISTRY%:*})")"
expect "a command in the cluster's network resolves a service" '{"tenantId": "node-test"}' \
	"$("$HERE/run" curl -s http://web.node-test.svc/azure.json)"
expect "a pod reaches itself through its service" '{"tenantId": "node-test"}' "$(in_pod /busybox wget -q -O - "http://$ip/azure.json")"
expect "a pod mounts what was put in the node's /etc" '{"tenantId": "node-test"}' "$(in_pod /busybox cat /azure.json)"
expect "which the machine's /etc does not have" "" "$(grep -s node-test /etc/kubernetes/node-test.json)"

field() { sed -nE "s/.*\"$1\":\"([^\"]*)\".*/\\1/p" <<<"$2"; }
discovery=$(in_pod /kit get -token= https://kubernetes.default.svc/.well-known/openid-configuration)
expect "anyone may read who the issuer is" https://kubernetes.default.svc.cluster.local "$(field issuer "$discovery")"
expect "and its keys, at the address it gives" RS256 "$(field alg "$(in_pod /kit get -token= "$(field jwks_uri "$discovery")")")"
expect "a node may run 250 pods" 250 "$(k get node $NODE -o jsonpath='{.status.capacity.pods}')"

k create secret generic canary --from-literal=key=5f0c1e9a-canary >/dev/null
expect "etcd's files can be searched from outside" found "$(grep -rqa 5f0c1e9a-canary "$RUN/etcd" && echo found)"
k run talker --image=$REGISTRY/busybox:1 --restart=Never -- echo "said by a pod" >/dev/null
k wait --for=jsonpath='{.status.phase}'=Succeeded pod/talker --timeout=30s >/dev/null
expect "and so can the logs of pods" found "$(grep -rq "said by a pod" "$RUN/log/pods" && echo found)"
"$HERE/run" --node rm /etc/kubernetes/node-test.json
"$HERE/kubectl" delete namespace node-test --wait=false >/dev/null
verdict
