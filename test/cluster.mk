# The test cluster; included by the Makefile at the root. See test/cluster/README.md.

.PHONY: cluster-up cluster-down cluster-check cluster-envtest cluster-test

cluster-up: ## start the one-node test cluster (root; builds it the first time, 8 minutes and more)
	@test/cluster/up.sh

cluster-down: ## end the test cluster and leave no trace of it
	@test/cluster/down.sh

cluster-check: ## what the end-to-end tests need, checked on the running test cluster
	@test/cluster/check.sh

cluster-envtest: ## build etcd, kube-apiserver and kubectl; print their directory, for KUBEBUILDER_ASSETS
	@test/cluster/envtest.sh

cluster-test: ## the tests of the test cluster itself (root; while no cluster is up)
	@test/cluster/test/all.sh
