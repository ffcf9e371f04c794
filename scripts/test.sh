#!/usr/bin/env bash
# Every check this repository has: style, layers, types, shell, then the tests.
#
#   bash scripts/test.sh [--slow] [pytest arguments]
#
# Without --slow, tests marked slow are left out. Tests marked gpu run where there is one, else they are skipped and say so.
# Exit status 1 if a check or a test failed. pytest's closing line is the last line on stdout.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

bash scripts/setup.sh || exit $?
bin="${DISTILL_VENV:-.venv}/bin"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

selection='not slow'
if [[ "${1:-}" == "--slow" ]]; then
    selection=''
    shift
fi

failed=()
check() {
    local name="$1"
    shift
    echo "== $name" >&2
    "$@" >&2 || failed+=("$name")
}

check "ruff check" "$bin/ruff" check .
check "ruff format" "$bin/ruff" format --check .
check "import layers" "$bin/lint-imports"
check "mypy" "$bin/mypy" distill
check "shellcheck" "$bin/shellcheck" scripts/*.sh scripts/slurm/*.sh scripts/ci/*.sh .ci/run

"$bin/python" -m pytest -m "$selection" "$@" || failed+=("pytest")

if ((${#failed[@]})); then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
