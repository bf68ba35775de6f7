#!/usr/bin/env bash
# Owns the proof that the lower bounds of pyproject.toml hold: the quick tests with the oldest numpy and the oldest torch, in
# an environment of their own.
#
# Two things are left out. Compiled models: the compiler of torch 2.6 waits without an end for a process of its own on some
# machines, and it is not ours to test. The libraries beside torch (Lightning, transformers, the exporters' own), whose
# present versions want a newer torch: without them their tests are skipped.
#
# Usage: tests/lower_bounds.sh PYTHON [PYTEST OPTION ...], whose extension has been built in place (`make develop`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$1
venv=.venv-lower

# The oldest numpy and torch, then what the tests themselves import, as pyproject.toml has it.
mapfile -t packages < <("$python" - <<'PYTHON'
import re, tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
oldest = [*project["dependencies"], *extras["torch"]]
print(*(re.sub(r">=([\d.]+)$", r"==\1.*", each) for each in oldest), sep="\n")
left_out = {"accelerate", "lightning", "opentelemetry-proto", "prometheus-client", "pytest-torch", "tensorboard", "torch",
            "transformers", "wandb"}
print(*(each for each in extras["test"] if re.match(r"[\w-]+", each)[0] not in left_out), sep="\n")
PYTHON
)
echo "lower bounds: ${packages[0]} and ${packages[1]} in $venv"
[[ -x $venv/bin/python ]] || "$python" -m venv "$venv"
if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${packages[@]}"; then
    echo "lower bounds: NOT TESTED, the packages cannot be installed here (see above)"
    exit 0
fi
PYTHONPATH=python "$venv/bin/python" -m pytest -q -rfE -n 2 --dist loadfile -m 'not slow' \
    --ignore=tests/test_watch_compile.py --ignore=tests/test_watch_eval.py "${@:2}"
