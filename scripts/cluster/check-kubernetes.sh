#!/usr/bin/env bash
# Checks scripts/cluster/kubernetes.yaml against the schemas of Kubernetes, by PyPI's kubernetes-validate (installed into a folder
# that goes again).
#
#   scripts/cluster/check-kubernetes.sh [VERSION]...      1.29 and the newest by default; needs python3-venv
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check kubernetes-validate==1.37.0
[ $# != 0 ] || set -- 1.29 1.37
for version in "$@"; do
    "$folder/bin/kubernetes-validate" --strict --kubernetes-version "$version" scripts/cluster/kubernetes.yaml
done
