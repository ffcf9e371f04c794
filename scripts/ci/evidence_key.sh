#!/usr/bin/env bash
# Names under which GitHub's cache keeps a gate's evidence: by gate, model and version of the model.
#
#   GATE=no-regression GATE_MODEL=out/student bash scripts/ci/evidence_key.sh      # prefix=...  key=...
#
# GATE, GATE_MODEL, GATE_BASE_URL, GATE_REPLAY, GATE_OTHER   as for gate.sh
# GATE_EVIDENCE   version of the models [where one of them is served: the commit, GITHUB_SHA; else nothing]
#
# A cache never changes: every run saves a new one under `key`, and begins from the newest with its `prefix`. What of it
# may be continued is decided by distill, from hashes of model, prompts, parameters and task. A checkpoint is known by
# its weights, a served model by its name alone: new weights under an old name must not find the evidence of the last.
set -euo pipefail

version="${GATE_EVIDENCE:-}"
if [[ -z "$version" && "${GATE_BASE_URL:-} ${GATE_OTHER:-}" == *http* ]]; then
    version="${GITHUB_SHA:-}"
fi
who="${GATE_MODEL:-${GATE_REPLAY:-${GATE_BASE_URL:-recorded}}}"
digest="$(printf '%s\n' "${GATE:?give a gate or recipe}" "$who" "$version" | sha256sum | cut -c1-16)"
name="$(basename "$GATE" .yaml | tr -c 'A-Za-z0-9.\n' '-')"
prefix="distill-gate-1-$name-$digest-"
key="$prefix${GITHUB_RUN_ID:-0}-${GITHUB_RUN_ATTEMPT:-1}"
printf '%s\n' "prefix=$prefix" "key=$key" | tee -a "${GITHUB_OUTPUT:-/dev/null}"
