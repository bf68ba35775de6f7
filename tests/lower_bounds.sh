#!/usr/bin/env bash
# Owns the proof that the lower bounds of pyproject.toml hold: the tests with the oldest numpy and the oldest torch, in an
# environment of their own. Compiled models are left out: the compiler of an old torch is not ours to test.
#
# Usage: tests/lower_bounds.sh PYTHON, whose extension has been built in place (`make develop`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$1

bound() {
    "$python" - "$1" <<'PYTHON'
import re, sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
wanted = project["dependencies"] + project["optional-dependencies"]["torch"]
print(next(found[1] for text in wanted if (found := re.fullmatch(rf"{sys.argv[1]}>=([\d.]+)", text))))
PYTHON
}

numpy=$(bound numpy)
torch=$(bound torch)
[[ -x .venv-lower/bin/python ]] || "$python" -m venv .venv-lower
.venv-lower/bin/pip install --quiet --disable-pip-version-check "numpy==$numpy.*" "torch==$torch.*" \
    'boost-histogram>=1.8' 'hist>=2.12' 'hypothesis>=6.100' 'matplotlib>=3.9' 'ml_dtypes>=0.5' 'pytest>=8.2' 'pytest-timeout>=2.3' \
    'scikit-learn>=1.5' 'scipy>=1.14' 'uhi[schema]>=1.2'
PYTHONPATH=python .venv-lower/bin/python -m pytest -o addopts='--import-mode=importlib -ra' tests \
    --ignore=tests/test_watch_compile.py --ignore=tests/test_watch_eval.py "${@:2}"
