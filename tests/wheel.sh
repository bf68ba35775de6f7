#!/usr/bin/env bash
# Owns the proof that what is published can be installed and used: a wheel is built from the source distribution alone and
# tried on every Python that is found: with numpy and nothing else, and by the quick tests that need no more.
#
# Usage: tests/wheel.sh PYTHON [VERSION ...], a Python with maturin. Versions that are not found are named and left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(realpath -s "$1")
versions=("${@:2}")
[[ ${#versions[@]} -gt 0 ]] || versions=(3.11 3.12 3.13)
own=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
work=$PWD/target/wheel

# pyenv has commands for Pythons that it does not run: only running one tells.
find_python() {
    local candidate
    for candidate in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python; do
        if [[ $("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) == "$1" ]]; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

echo "wheel: building it from the source distribution"
rm -rf "$work"
mkdir -p "$work"
"$(dirname "$python")/maturin" sdist --out "$work" >"$work/sdist.log" 2>&1 || { cat "$work/sdist.log"; exit 1; }
# The frontend makes an empty environment for the build. Without the long optimisation at link time: what is proved is that
# nothing is missing.
CARGO_TARGET_DIR=$work/target CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work" "$work"/tensorstats-*.tar.gz
wheel=$(echo "$work"/tensorstats-*.whl)
echo "wheel: $(basename "$wheel"), $(($(stat -c %s "$wheel") / 1024)) KiB"

for version in "${versions[@]}"; do
    if ! base=$(find_python "$version"); then
        echo "Python $version: LEFT OUT, it is not installed here"
        continue
    fi
    "$base" -m venv "$work/$version"
    here=$work/$version/bin/python
    "$here" -m pip install --quiet --disable-pip-version-check "$wheel"
    "$here" -P tests/smoke.py
    # This Python's tests are those of `make test`.
    if [[ $version == "$own" ]]; then continue; fi
    "$here" -m pip install --quiet --disable-pip-version-check \
        'hypothesis>=6.100' 'ml_dtypes>=0.5' 'pytest>=8.2' 'pytest-timeout>=2.3' 'pytest-xdist>=3.6'
    # The pages and the command line are about torch too.
    "$here" -P -m pytest --installed -q -rfE -n 2 --dist loadfile --max-worker-restart 0 -m 'not slow' \
        --ignore=tests/test_readme.py --ignore=tests/test_cli.py
done
