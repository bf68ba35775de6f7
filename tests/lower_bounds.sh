#!/usr/bin/env bash
# Owns the proof that the lower bounds of pyproject.toml hold: the quick tests with the oldest numpy and the oldest torch, in
# an environment of their own.
#
# Left out are compiled models, for the compiler of torch 2.6 waits without an end for a process of its own on some machines;
# what is marked slow, several ranks among it, for the sharding of torch 2.6 fails without a GPU; Lightning, transformers and
# the exporters' own libraries, whose present versions want a newer torch, and with them the pages that show them. That the
# version is that of the installed package is for tests/wheel.sh.
#
# Usage: tests/lower_bounds.sh install, then test [PYTEST OPTION ...], with the extension built in place (`make develop`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
here=.venv-lower/bin/python

install() {
    [[ -x $here ]] || "${PYTHON:-python3}" -m venv .venv-lower
    # The oldest numpy and torch, then what the tests themselves import.
    local packages
    mapfile -t packages < <("$here" - <<'EOS'
import re, tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
print(*(re.sub(r">=([\d.]+)$", r"==\1.*", each) for each in (*project["dependencies"], *extras["torch"])), sep="\n")
left_out = {"accelerate", "lightning", "opentelemetry-proto", "prometheus-client", "pytest-torch", "tensorboard", "torch",
            "transformers", "wandb"}
print(*(each for each in extras["test"] if re.match(r"[\w-]+", each)[0] not in left_out), sep="\n")
EOS
)
    echo "lower bounds: installing ${packages[0]} and ${packages[1]} into .venv-lower"
    rm -f .venv-lower/.complete
    if "$here" -m pip install --quiet --disable-pip-version-check "${packages[@]}"; then
        touch .venv-lower/.complete
    else
        echo "lower bounds: the packages cannot be installed here (see above)"
    fi
}

run_tests() {
    if [[ ! -e .venv-lower/.complete ]]; then
        echo "lower bounds: NOT TESTED, the packages could not be installed"
        return
    fi
    PYTHONPATH=$PWD/python "$here" -m pytest -q -rfE -n 2 --dist loadfile --max-worker-restart 0 -m 'not slow' \
        --ignore=tests/test_watch_compile.py --ignore=tests/test_watch_eval.py --ignore=tests/test_readme.py \
        --ignore=tests/test_export_libraries.py \
        --deselect=tests/test_import_light.py::test_version_is_that_of_the_package "$@"
}

case ${1:-} in
install) install ;;
test) run_tests "${@:2}" ;;
*) sed -n '/^# Usage/s/^# //p' "$0" && exit 2 ;;
esac
