#!/usr/bin/env bash
# Makes a virtual environment with distill and what its gate needs, at the versions that this checkout was tested with.
#
#   bash scripts/ci/install.sh VENV
#
# GATE_INSTALL=auto|light|full   light has no torch: recorded samples, and models behind a URL. full runs checkpoints.
#                                auto: full where GATE_MODEL (without GATE_BASE_URL) or GATE_OTHER name one
# DISTILL_REQUIREMENT=...        another distill than this checkout, pinned: a wheel, `distill==1.2.3`,
#                                `distill @ git+URL@COMMIT`
# DISTILL_VENV=...               use this environment, as it is, instead; nothing is installed
# PYTHON=...                     interpreter to make it with, 3.11 or later [python3]
# pip's own settings (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, ...) choose where packages come from, torch's build included.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
venv="${1:?usage: bash scripts/ci/install.sh VENV}"

stop() {
    echo "error: $1" >&2
    exit 2
}

if [[ -n "${DISTILL_VENV:-}" ]]; then
    [[ -x "$DISTILL_VENV/bin/distill" ]] ||
        stop "DISTILL_VENV=$DISTILL_VENV: has no bin/distill; give an environment with distill, or unset it."
    exit 0
fi

requirement="${DISTILL_REQUIREMENT:-$root}"
pinned='(==[^*]+|@[0-9a-f]{40}|@v?[0-9]+(\.[0-9]+)+)$'
if [[ ! -e "$requirement" && ! "$requirement" =~ $pinned ]]; then
    stop "DISTILL_REQUIREMENT=$requirement: a branch moves; end it with ==VERSION, @COMMIT (40 digits) or @vX.Y.Z."
fi

install="${GATE_INSTALL:-auto}"
if [[ "$install" == auto ]]; then
    install=light
    models="${GATE_OTHER:-}"
    [[ -n "${GATE_BASE_URL:-}" || -z "${GATE_MODEL:-}" ]] || models+=$'\n'"student=$GATE_MODEL"
    # A model that is neither a ledger nor an address is loaded here.
    ! grep -E '^[[:space:]]*[a-z]+=' <<<"$models" | grep -qvE '=(https?://.*|.*\.db(#.*)?)[[:space:]]*$' || install=full
fi
[[ "$install" == light || "$install" == full ]] || stop "GATE_INSTALL=$install: expected auto, light or full."
echo "install: $install" >&2

"${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || stop "distill needs Python 3.11 or later."
"${PYTHON:-python3}" -m venv "$venv"
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
case "$install" in
light)
    "${pip[@]}" --constraint "$root/constraints.txt" setuptools --requirement "$root/scripts/ci/requirements-replay.txt"
    "${pip[@]}" --no-deps --no-build-isolation "$requirement"
    ;;
full)
    # torch first: some packages look for it while they are built
    "${pip[@]}" --constraint "$root/constraints.txt" torch setuptools
    "${pip[@]}" --constraint "$root/constraints.txt" "$requirement"
    ;;
esac
"$venv/bin/distill" --version
