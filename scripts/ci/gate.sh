#!/usr/bin/env bash
# Runs `distill gate` as a check of CI: one exit code, and a report whatever happened. GitHub, GitLab or any shell.
#
#   GATE=no-regression GATE_MODEL=out/student bash scripts/ci/gate.sh
#
# GATE                  gate or recipe: a name in the catalogue or a file
# GATE_OUT              run directory; evidence of an earlier run in it is continued [distill-gate]
# GATE_MODEL            checkpoint folder, card, or the name that a served model has
# GATE_BASE_URL         OpenAI-compatible endpoint that serves the model; DISTILL_API_KEY holds its key, if it has one
# GATE_REPLAY           ledger of recorded samples (LEDGER.db or LEDGER.db#MODEL) in place of a model: nothing is drawn
# GATE_OTHER            models to compare with, ROLE=MODEL, one a line; a ledger is a model too
# GATE_SET              settings a.b=c, one a line
# GATE_ARGS             further arguments of `distill gate`, one a line
# GATE_CATALOG          folder with eval/gates, eval/tasks, ... of your own
# GATE_ON_INCONCLUSIVE  fail: exit 4; neutral: exit 0 with a warning [fail]
# DISTILL_VENV          environment that has distill [the PATH's]
#
# Exit codes are distill's: 0 pass, 2 usage, 3 failed, 4 inconclusive, 5 invalid, 6 infrastructure, 143 interrupted.
# After every run OUT/gate has junit.xml (an error where there is no verdict) and outcome.env (dotenv, for GitLab).
set -uo pipefail

gate="${GATE:-}" out="${GATE_OUT:-distill-gate}" policy="${GATE_ON_INCONCLUSIVE:-fail}"
model="${GATE_MODEL:-}" url="${GATE_BASE_URL:-}" replay="${GATE_REPLAY:-}"
distill="${DISTILL_VENV:+$DISTILL_VENV/bin/}distill"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
errors="$scratch/errors.txt"
arguments=()

main() {
    mkdir -p "$out/gate" && rm -f "$out/gate/"{junit.xml,summary.md,outcome.env} || exit 6
    code=0
    if find_fault >"$errors"; then
        cat "$errors" >&2
        code=2
    else
        compose
        run
    fi
    report
    if ((code == 4)) && [[ "$policy" == neutral ]]; then
        exit 0
    fi
    exit "$code"
}

# Prints what is wrong with the settings; fails where nothing is.
find_fault() {
    if [[ -z "$gate" ]]; then
        echo "error: GATE: give the name of a gate or recipe, or its file; \`distill list gates\` shows them."
    elif [[ "$policy" != fail && "$policy" != neutral ]]; then
        echo "error: GATE_ON_INCONCLUSIVE=$policy: expected fail or neutral."
    elif [[ -n "$replay" && -n "$model$url" ]]; then
        echo "error: GATE_REPLAY stands in place of a model; unset GATE_MODEL and GATE_BASE_URL, or it."
    elif [[ -n "$replay" && ! -f "${replay%%#*}" ]]; then
        echo "error: GATE_REPLAY=$replay: no such file; restore or download the ledger first."
    elif ! command -v "$distill" >/dev/null; then
        echo "error: $distill: not found; run scripts/ci/install.sh, and set DISTILL_VENV."
    else
        return 1
    fi
}

compose() {
    local line
    arguments=(${GATE_CATALOG:+--catalog "$GATE_CATALOG"} gate "$gate" --out "$out")
    [[ -z "$model$replay" ]] || arguments+=(--model "$model$replay")
    [[ -z "$url" ]] || arguments+=(--base-url "$url")
    while IFS= read -r line; do
        arguments+=(--other "$line")
    done < <(lines "${GATE_OTHER:-}")
    while IFS= read -r line; do
        arguments+=(--set "$line")
    done < <(lines "${GATE_SET:-}")
    while IFS= read -r line; do
        arguments+=("$line")
    done < <(lines "${GATE_ARGS:-}")
}

# Lines of a text without their indentation, empty ones and comments.
lines() {
    sed -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' -e '/^$/d' -e '/^#/d' <<<"$1"
}

# Runs distill, its messages on stderr as they come; a signal to this script reaches it, and it saves what it has.
run() {
    local commands="distill-$RANDOM$RANDOM" child reader
    mkfifo "$scratch/stderr"
    tee "$errors" <"$scratch/stderr" >&2 &
    reader=$!
    [[ -z "${GITHUB_ACTIONS:-}" ]] || echo "::stop-commands::$commands"
    "$distill" "${arguments[@]}" 2>"$scratch/stderr" &
    child=$!
    trap 'kill -TERM "$child" 2>/dev/null' INT TERM HUP
    wait "$child"
    code=$?
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        code=$?
    done
    trap - INT TERM HUP
    wait "$reader"
    [[ -z "${GITHUB_ACTIONS:-}" ]] || echo "::$commands::"
}

report() {
    local outcome verdict=""
    if [[ " 0 3 4 " == *" $code "* ]] && ! has_verdict; then
        echo "error: distill ended with exit code $code and no verdict; see GATE_ARGS." | tee -a "$errors" >&2
        code=1
    fi
    case "$code" in
    0) outcome=PASS ;;
    2) outcome=USAGE ;;
    3) outcome=FAIL ;;
    4) outcome=INCONCLUSIVE ;;
    5) outcome=INVALID ;;
    6) outcome=INFRASTRUCTURE ;;
    130 | 137 | 143) outcome=INTERRUPTED ;;
    *) outcome=CRASH ;;
    esac
    if has_verdict; then
        verdict="$out/gate/verdict.json"
    else
        no_verdict_junit "$outcome" >"$out/gate/junit.xml"
        [[ -z "${GITHUB_STEP_SUMMARY:-}" ]] || no_verdict_summary "$outcome" >>"$GITHUB_STEP_SUMMARY"
    fi
    printf 'DISTILL_GATE_OUTCOME=%s\nDISTILL_GATE_EXIT_CODE=%s\n' "$outcome" "$code" >"$out/gate/outcome.env"
    printf '%s\n' "outcome=$outcome" "exit-code=$code" "verdict=$verdict" "junit=$out/gate/junit.xml" \
        >>"${GITHUB_OUTPUT:-/dev/null}"
    [[ -z "${GITHUB_ACTIONS:-}" ]] || annotate "$outcome"
}

# Whether the files are of a verdict: a gate writes them after every round, and one that broke off has none.
has_verdict() {
    [[ -f "$out/gate/junit.xml" && " 0 3 4 5 " == *" $code "* ]] &&
        grep -qE "^ \"exit_code\": $code,?\$" "$out/gate/verdict.json"
}

annotate() {
    local level=error text="gate $gate: $1 (exit code $code)"
    case "$code:$policy" in
    0:*) level=notice ;;
    4:neutral) level=warning ;;
    esac
    [[ ! -s "$errors" ]] || ((code == 0 || code == 3 || code == 4)) || text+=": $(plain_errors | tail -n 1)"
    text="${text//'%'/%25}"
    echo "::$level title=distill gate::${text//$'\n'/%0A}"
}

# The end of what distill said on stderr.
plain_errors() {
    tail -n 40 "$errors" | plain
}

# Printable ASCII, tabs and lines: what XML and Markdown take.
plain() {
    LC_ALL=C tr -cd '\11\12\40-\176'
}

no_verdict_junit() {
    local name
    name="$(plain <<<"$gate" | escape)"
    cat <<XML
<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="1" failures="0" errors="1">
  <testsuite name="gate $name" tests="1" failures="0" errors="1">
    <testcase classname="gate.$name" name="verdict">
      <error type="$1" message="$(plain_errors | tail -n 1 | escape)">$(plain_errors | escape)</error>
    </testcase>
  </testsuite>
</testsuites>
XML
}

escape() {
    sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/"/\&quot;/g'
}

no_verdict_summary() {
    printf '## Gate %s: no verdict (%s, exit code %s)\n\n' "$(plain <<<"$gate" | escape)" "$1" "$code"
    plain_errors | sed 's/^/    /'
    printf '\nSamples already taken are kept; the same command goes on.\n'
}

main
