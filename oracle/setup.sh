#!/usr/bin/env bash
# Make the environment of the real fastai packages: bash oracle/setup.sh [FOLDER, .oracle by default]
# fastai 2 and what it needs are installed as usual. fastai 1 has the same import name, so it lies beside them in fastai-1/,
# without its dependencies: its text modules need nothing that fastai 2 does not bring (see oracle/fastai1.py).
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
target="${1:-$here/../.oracle}"
python="${PYTHON:-python3}"

"$python" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "the oracle needs Python 3.11 or newer")'
"$python" -m venv "$target"
install=("$target/bin/python" -m pip install --quiet --disable-pip-version-check)
"${install[@]}" -c "$here/constraints.txt" fastai==2.8.12 spacy==3.8.18 torch==2.13.0 torchvision==0.28.0 pyarrow==26.0.1 fastapi==0.165.0 sentencepiece==0.2.3
"${install[@]}" --no-deps --upgrade --target "$target/fastai-1" fastai==1.0.61

# Other versions of fastai, for generate.py: each in a folder of its own, without its dependencies but two that must be as old.
for version in 1.0.46 1.0.52 1.0.58; do
    "${install[@]}" --no-deps --upgrade --target "$target/versions/$version" "fastai==$version"
done
while read -r version fastcore; do
    "${install[@]}" --no-deps --upgrade --target "$target/versions/$version" "fastai==$version" "fastcore==$fastcore" fastprogress==1.0.3
done <<VERSIONS
2.1.10 1.3.8
2.3.1 1.3.20
2.5.3 1.3.29
2.7.19 1.7.29
VERSIONS
