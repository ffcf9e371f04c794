#!/usr/bin/env bash
# Names under which CI keeps a gate's evidence: by the gate and the model, not by the commit or the budget.
#
#   GATE=no-regression GATE_MODEL=out/student bash scripts/ci/evidence_key.sh      # prefix=...  key=...
#
# A cache of GitHub never changes: every run saves a new one under `key`, and begins from the newest with its `prefix`.
# What of it may be continued is decided by distill, from hashes of model, prompts, parameters and task; a name that
# fits too much costs a download, not a wrong verdict.
set -euo pipefail

who="${GATE_MODEL:-${GATE_REPLAY:-${GATE_BASE_URL:-recorded}}}"
digest="$(printf '%s\n' "${GATE:?give a gate or recipe}" "$who" | sha256sum | cut -c1-16)"
name="$(basename "$GATE" .yaml | tr -c 'A-Za-z0-9.\n' '-')"
prefix="distill-gate-1-$name-$digest-"
key="$prefix${GITHUB_RUN_ID:-0}-${GITHUB_RUN_ATTEMPT:-1}"
printf '%s\n' "prefix=$prefix" "key=$key" | tee -a "${GITHUB_OUTPUT:-/dev/null}"
