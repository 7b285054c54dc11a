# Container images, built from Go alone: no container engine, same source → same digest.
#
#   make images REGISTRY=registry.example/team TAG=1.2.3
#
# IMAGES_FLAGS takes what else `go run ./internal/release/images -h` offers, such as -insecure
# or -values-out DIR (Helm values that name exactly these images).

TAG       ?= $(shell sed -n 's/^appVersion: *"\{0,1\}\([^"]*\)"\{0,1\}$$/\1/p' charts/akv2k8s/Chart.yaml)
PLATFORMS ?= linux/amd64,linux/arm64

.PHONY: images
images: ## build and push the images of amd64 and arm64 (REGISTRY=registry.example/team TAG=1.2.3)
	@test -n "$(REGISTRY)" || { echo 'make images needs REGISTRY, for instance: make images REGISTRY=registry.example/team'; exit 2; }
	go run ./internal/release/images -registry $(REGISTRY) -tag $(TAG) -platform $(PLATFORMS) $(IMAGES_FLAGS)
