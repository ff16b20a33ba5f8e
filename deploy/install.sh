#!/bin/sh
# Install the wheel in FOLDER with everything needed for serving signed bundles, and nothing else: sh install.sh ENVIRONMENT FOLDER
set -eu
environment="$1"
folder="$2"
python3 -m venv "$environment"
wheel="$(ls "$folder"/bothways-*.whl)"
"$environment/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check \
  -c "$folder/constraints.txt" "bothways[serve,sign] @ file://$(realpath "$wheel")"
"$environment/bin/pip" uninstall --quiet --yes pip setuptools
# Remove the libraries' own tests: twenty megabytes that nothing imports.
find "$environment" -type d -name tests -path '*/numpy/*' -prune -exec rm -r {} +
rm -rf "$environment"/lib/python*/site-packages/onnx/backend/test
