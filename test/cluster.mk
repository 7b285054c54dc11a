# The test cluster; included by the Makefile at the root. See test/cluster/README.md.

.PHONY: cluster-up cluster-down cluster-check cluster-envtest cluster-test

cluster-up: ## Start the one-node test cluster (root; builds it the first time, about 12 minutes)
	@test/cluster/up.sh

cluster-down: ## End the test cluster and leave no trace of it
	@test/cluster/down.sh

cluster-check: ## Check on the running test cluster what the end-to-end tests rely on
	@test/cluster/check.sh

cluster-envtest: ## Build etcd, kube-apiserver and kubectl; print the directory for KUBEBUILDER_ASSETS
	@test/cluster/build.sh envtest

cluster-test: ## Test the test cluster itself: cgroups, odd states, nothing left behind (root; ends a running cluster)
	@test/cluster/test/all.sh
