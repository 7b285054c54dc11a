#!/bin/bash
# Builds what controller-runtime's envtest starts and prints the directory that
# holds it: KUBEBUILDER_ASSETS. Needs no root.
exec "$(dirname "${BASH_SOURCE[0]}")/build.sh" envtest
