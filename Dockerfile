# The images of `make images`, for those who prefer a container engine:
#
#   docker build --target azure-keyvault-controller -t registry.example/azure-keyvault-controller:1.2.3 \
#     --build-arg VERSION=1.2.3 .
#
# Each target is the program alone on an empty file system; the programs bring
# the CA roots they need. The digests differ from those of `make images`
# (engines write times and histories of their own); the binaries are the same.

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY api api
COPY cmd cmd
COPY emulator emulator
COPY internal internal
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
ENV CGO_ENABLED=0 GOAMD64=v1 GOARM64=v8.0
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    mkdir /out && GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$VERSION" -o /out/ \
    ./cmd/azure-keyvault-controller \
    ./cmd/azure-keyvault-secrets-webhook \
    ./cmd/azure-keyvault-broker \
    ./cmd/azure-keyvault-env \
    ./cmd/azure-keyvault-env-direct \
    ./cmd/keyvault-emulator

FROM scratch AS azure-keyvault-controller
COPY --from=build /out/azure-keyvault-controller /
USER 65532:65532
ENTRYPOINT ["/azure-keyvault-controller"]

FROM scratch AS azure-keyvault-webhook
COPY --from=build /out/azure-keyvault-secrets-webhook /
USER 65532:65532
ENTRYPOINT ["/azure-keyvault-secrets-webhook"]

FROM scratch AS azure-keyvault-broker
COPY --from=build /out/azure-keyvault-broker /
USER 65532:65532
ENTRYPOINT ["/azure-keyvault-broker"]

FROM scratch AS azure-keyvault-env
COPY --from=build /out/azure-keyvault-env /
USER 65532:65532
ENTRYPOINT ["/azure-keyvault-env"]

# The program lies where the other wrapper's does: a pod starts either by one path.
FROM scratch AS azure-keyvault-env-direct
COPY --from=build /out/azure-keyvault-env-direct /azure-keyvault-env
USER 65532:65532
ENTRYPOINT ["/azure-keyvault-env"]

FROM scratch AS keyvault-emulator
COPY --from=build /out/keyvault-emulator /
USER 65532:65532
ENTRYPOINT ["/keyvault-emulator"]
