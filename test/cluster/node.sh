#!/bin/bash
# The node's init: up.sh runs it as the first process of new network, mount,
# PID, UTS and IPC namespaces. When it ends, the kernel ends every process in
# there, and the mounts, interfaces and rules go with the last of them.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/config.sh"
P=$RUN/pki L=$RUN/log C=$RUN/etc D=$RUN/data
export PATH=$RUN/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export KUBECONFIG=$RUN/kubeconfig
unset HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy # nothing outside can be reached

mark() { printf '%s %s\n' "${EPOCHREALTIME:0:14}" "$*"; }

declare -A daemons # process id -> name
daemon() {
	local name=$1; shift
	"$name" "$@" >"$L/$name.log" 2>&1 &
	daemons[$!]=$name
}

all_run() {
	local pid
	for pid in "${!daemons[@]}"; do
		kill -0 "$pid" 2>/dev/null && continue
		mark "${daemons[$pid]} ended early:"
		tail -5 "$L/${daemons[$pid]}.log"
		return 1
	done
}

await() { # await WHAT COMMAND...: until the command succeeds
	local what=$1; shift
	for _ in $(seq 1800); do
		if "$@" >/dev/null 2>&1; then mark "$what"; return; fi
		all_run || exit 1
		sleep 0.1
	done
	mark "gave up on: $what"
	exit 1
}

# Nothing mounted here is seen outside this mount namespace.
mounts() {
	local f s
	mkdir -p "$RUN"/{log/pods,etcd,data}
	# /run is the node's own, but for this cluster's state.
	mount -n -t tmpfs node "$D"
	mkdir "$D/${RUN##*/}"
	mount -n --bind "$RUN" "$D/${RUN##*/}"
	mount -n --move "$D" /run
	mount -n -t tmpfs node "$D"
	mkdir -p "$D"/{tmp,cgroup,sysctl,etc,etc.work,lib,lib.work}
	export TMPDIR=$D/tmp
	# A sysfs of this network namespace, with the cgroups back in place.
	mount -n --rbind /sys/fs/cgroup "$D/cgroup"
	mount -n -t sysfs sysfs /sys
	mount -n --rbind "$D/cgroup" /sys/fs/cgroup
	umount -n -l "$D/cgroup"
	mount -n --make-rshared / # only now: while shared, that umount would have reached the copy
	# Written here, kept from the machine: /etc and /var/lib are the machine's
	# with a layer in memory on top; logs go where they can be read from outside.
	mount -n -t overlay -o "lowerdir=/etc,upperdir=$D/etc,workdir=$D/etc.work" node /etc
	mount -n -t overlay -o "lowerdir=/var/lib,upperdir=$D/lib,workdir=$D/lib.work" node /var/lib
	mkdir -p /etc/kubernetes /var/lib/kubelet /var/lib/containerd
	mount -n -t tmpfs node /var/lib/kubelet
	mount -n -t tmpfs node /var/lib/containerd
	mount -n --bind "$L" /var/log
	# The kubelet insists on these values and would set them for the whole machine.
	for s in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
		kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
		[[ -e /proc/sys/${s%=*} ]] || continue
		f=$D/sysctl/${s//[\/=]/_}
		echo "${s#*=}" >"$f"
		mount -n --bind "$f" "/proc/sys/${s%=*}"
	done
}

network() {
	hostname $NODE
	ip link set lo up
	# Stands for the node's network card and what it is plugged into.
	ip link add node0 type veth peer name wire0
	ip addr add $NODE_IP/24 dev node0
	ip addr add $RESOLVER_IP/24 dev node0
	ip link set node0 up
	ip link set wire0 up
	ip route add default dev node0 src $NODE_IP # a route must exist before DNAT is asked
	echo 1 >/proc/sys/net/ipv4/ip_forward
	rm -f /etc/resolv.conf /etc/hosts # may be links
	echo "nameserver $RESOLVER_IP" >/etc/resolv.conf
	printf '127.0.0.1 localhost\n%s %s\n%s %s\n' $NODE_IP $NODE $NODE_IP ${REGISTRY%:*} >/etc/hosts
}

control_plane() {
	daemon etcd --data-dir "$RUN/etcd" --unsafe-no-fsync \
		--listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
		--listen-peer-urls http://127.0.0.1:2380 --log-level warn
	daemon kube-apiserver --etcd-servers http://127.0.0.1:2379 \
		--bind-address 0.0.0.0 --advertise-address $NODE_IP --secure-port 6443 \
		--tls-cert-file "$P/apiserver.crt" --tls-private-key-file "$P/apiserver.key" \
		--client-ca-file "$P/ca.crt" --authorization-mode Node,RBAC \
		--enable-admission-plugins NodeRestriction --allow-privileged \
		--service-cluster-ip-range $SERVICE_CIDR \
		--service-account-issuer https://kubernetes.default.svc.cluster.local \
		--service-account-jwks-uri https://kubernetes.default.svc.cluster.local/openid/v1/jwks \
		--service-account-key-file "$P/sa.pub" --service-account-signing-key-file "$P/sa.key" \
		--kubelet-client-certificate "$P/apiserver-kubelet-client.crt" \
		--kubelet-client-key "$P/apiserver-kubelet-client.key" --kubelet-certificate-authority "$P/ca.crt" \
		--kubelet-preferred-address-types InternalIP \
		--requestheader-client-ca-file "$P/front-proxy-ca.crt" --requestheader-allowed-names front-proxy-client \
		--requestheader-extra-headers-prefix X-Remote-Extra- --requestheader-group-headers X-Remote-Group \
		--requestheader-username-headers X-Remote-User \
		--proxy-client-cert-file "$P/front-proxy-client.crt" --proxy-client-key-file "$P/front-proxy-client.key" \
		--v 1
}

controllers() {
	# At the default of 20 requests a second the controller manager starts 5 s
	# later; with the default grace period a busy machine loses its only node.
	daemon kube-controller-manager --kubeconfig "$P/kube-controller-manager.kubeconfig" \
		--authentication-kubeconfig "$P/kube-controller-manager.kubeconfig" \
		--authorization-kubeconfig "$P/kube-controller-manager.kubeconfig" --bind-address 127.0.0.1 \
		--use-service-account-credentials --service-account-private-key-file "$P/sa.key" --root-ca-file "$P/ca.crt" \
		--cluster-signing-cert-file "$P/ca.crt" --cluster-signing-key-file "$P/ca.key" --leader-elect=false \
		--kube-api-qps 1000 --kube-api-burst 1000 --node-monitor-grace-period 5m --v 1
	daemon kube-scheduler --kubeconfig "$P/kube-scheduler.kubeconfig" \
		--authentication-kubeconfig "$P/kube-scheduler.kubeconfig" \
		--authorization-kubeconfig "$P/kube-scheduler.kubeconfig" --bind-address 127.0.0.1 --leader-elect=false --v 1
}

# Images are served from memory; any registry name in a pod leads there.
images() {
	local applet links=()
	kit registry -listen 127.0.0.1:5000,$NODE_IP:5000,$NODE_IP:80 >"$L/registry.log" 2>&1 &
	daemons[$!]=registry
	mkdir -p "$C/certs.d/_default"
	cat >"$C/certs.d/_default/hosts.toml" <<-EOF
		server = "http://127.0.0.1:5000"
		[host."http://127.0.0.1:5000"]
		  capabilities = ["pull", "resolve"]
	EOF
	await "registry serves" curl -fsS http://127.0.0.1:5000/v2/
	kit push -entrypoint /pause $REGISTRY/pause:1 "$RUN/bin/pause=/pause"
	for applet in $(busybox --list); do
		[[ $applet == busybox ]] || links+=("bin/$applet=>/bin/busybox")
	done
	kit push -cmd sh $REGISTRY/busybox:1 "$(command -v busybox)=/bin/busybox" "${links[@]}" tmp/
}

runtime() {
	mkdir -p "$C/cni"
	# Point to point, not a bridge: all traffic is routed, so service addresses
	# need no bridge netfilter module, which a node cannot have for itself alone.
	cat >"$C/cni/10-ptp.conflist" <<-EOF
		{"cniVersion": "1.0.0", "name": "pods", "plugins": [
		  {"type": "ptp", "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": "$POD_CIDR"}]],
		                           "routes": [{"dst": "0.0.0.0/0"}]}},
		  {"type": "portmap", "capabilities": {"portMappings": true}}
		]}
	EOF
	# restrict_oom_score_adj: root may lack CAP_SYS_RESOURCE. disable_apparmor: a
	# profile would be loaded for the whole machine.
	cat >"$C/containerd.toml" <<-EOF
		version = 3
		disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.erofs"]
		[plugins.'io.containerd.cri.v1.images']
		  snapshotter = "overlayfs"
		  [plugins.'io.containerd.cri.v1.images'.pinned_images]
		    sandbox = "$REGISTRY/pause:1"
		  [plugins.'io.containerd.cri.v1.images'.registry]
		    config_path = "$C/certs.d"
		[plugins.'io.containerd.cri.v1.runtime']
		  restrict_oom_score_adj = true
		  disable_apparmor = true
		  netns_mounts_under_state_dir = true
		  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
		    runtime_type = "io.containerd.runc.v2"
		    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
		      SystemdCgroup = false
		  [plugins.'io.containerd.cri.v1.runtime'.cni]
		    bin_dirs = ["/usr/lib/cni"]
		    conf_dir = "$C/cni"
	EOF
	daemon containerd --config "$C/containerd.toml"
}

agents() {
	cat >"$C/kubelet.yaml" <<-EOF
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		failCgroupV1: false
		cgroupDriver: cgroupfs
		cgroupRoot: /$CGROUP
		containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
		authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $P/ca.crt}}
		authorization: {mode: Webhook}
		tlsCertFile: $P/kubelet-server.crt
		tlsPrivateKeyFile: $P/kubelet-server.key
		clusterDNS: [$NODE_IP]
		clusterDomain: cluster.local
		resolvConf: /etc/resolv.conf
		maxPods: 250
		oomScoreAdj: 0
		failSwapOn: false
		serializeImagePulls: false
		registryPullQPS: 0
		eventRecordQPS: 0
		volumePluginDir: /var/lib/kubelet/volume-plugins
		evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%, imagefs.inodesFree: 1%}
		imageGCHighThresholdPercent: 100
		syncFrequency: 10s
	EOF
	daemon kubelet --config "$C/kubelet.yaml" --kubeconfig "$P/kubelet.kubeconfig" \
		--hostname-override $NODE --node-ip $NODE_IP --v 2
	cat >"$C/kube-proxy.yaml" <<-EOF
		apiVersion: kubeproxy.config.k8s.io/v1alpha1
		kind: KubeProxyConfiguration
		mode: nftables
		hostnameOverride: $NODE
		clientConnection: {kubeconfig: $P/kube-proxy.kubeconfig}
		clusterCIDR: $POD_CIDR
		healthzBindAddress: 127.0.0.1:10256
		metricsBindAddress: 127.0.0.1:10249
		conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
	EOF
	daemon kube-proxy --config "$C/kube-proxy.yaml" --v 1
}

# Two DNS servers: the cluster's, and the one of the network that the node is
# in, which knows no cluster names. Both know the registry and nothing else, and
# neither asks anybody outside.
dns() {
	cat >"$C/root.zone" <<-EOF
		. 1 IN SOA dns. nobody. 1 3600 600 86400 1
		${REGISTRY%:*}. 1 IN A $NODE_IP
		$NODE. 1 IN A $NODE_IP
	EOF
	cat >"$C/Corefile" <<-EOF
		.:53 {
		  bind $NODE_IP
		  errors
		  ready 127.0.0.1:8181
		  kubernetes cluster.local in-addr.arpa {
		    kubeconfig $P/admin.kubeconfig
		    fallthrough in-addr.arpa
		  }
		  file $C/root.zone .
		}
		.:53 {
		  bind $RESOLVER_IP
		  errors
		  file $C/root.zone .
		}
	EOF
	daemon coredns -conf "$C/Corefile"
}

# Anyone may read the issuer's public keys, as where workload identity is used.
publish_issuer() { # run by await
	# shellcheck disable=SC2317
	kubectl create clusterrolebinding issuer-discovery-for-all \
		--clusterrole system:service-account-issuer-discovery --group system:unauthenticated
}

main() {
	local pid status
	trap 'mark stopping; kill $(jobs -p) 2>/dev/null; exit 0' TERM INT
	mounts
	network
	mark "namespaces set up"
	control_plane
	runtime
	images
	await "containerd serves" ctr --address /run/containerd/containerd.sock version
	await "API server serves" curl -fsS --cacert "$P/ca.crt" https://127.0.0.1:6443/readyz
	controllers
	agents
	dns
	await "issuer is public" publish_issuer
	kubectl wait --for=create node/$NODE --timeout=180s
	kubectl wait --for=condition=Ready node/$NODE --timeout=180s
	await "default service account" kubectl get serviceaccount default
	await "DNS serves" curl -fsS http://127.0.0.1:8181/ready
	mark "node ready"
	touch "$RUN/ready"
	# As init: reap what is orphaned, and write down what ended that should not.
	while :; do
		pid=
		status=0
		wait -n -p pid || status=$?
		[[ -z $pid ]] || { mark "${daemons[$pid]:-a process} ended with status $status" | tee -a "$RUN/ended"; }
		[[ -n $pid ]] || sleep 1
	done
}

# Read whole before it runs: bash reads a script as it goes, and this one may
# be changed while the cluster is up.
main; exit
