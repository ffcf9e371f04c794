#!/usr/bin/env bash
# Serves a teacher on the nodes of a Slurm job, several replicas behind a router, and harvests from it.
#
#   sbatch --nodes=4 scripts/slurm/harvest.sh RECIPE OUT [options of `distill harvest`]    # 2 replicas of 2 nodes
#   bash scripts/slurm/harvest.sh --local 2 RECIPE OUT [options of `distill harvest`]      # 2 servers of this machine
#
# The serving command is the teacher card's: the entry of `serving` with this engine and number of nodes a replica.
# Settings, from the environment (sbatch hands it on):
#   TEACHER=deepseek-r1 ENGINE=vllm|sglang REPLICA_NODES=2   which entry of which card
#   COMMAND='...'          serve with this instead; then ENGINE may be `command` (see serve_rank.sh)
#   ROUTER=vllm|sglang|none   default: the engine's own; none gives all replicas to distill, which balances by itself
#   ROUTER_COMMAND='...'   how to call it; default `vllm-router` (of that package) or `python3 -m sglang_router...`
#   SERVE_PREFIX='apptainer exec --nv image.sif'   PORT=8000   HEALTH_PATH=/health   HEALTH_SECONDS=3600
#   PYTHON=...             the interpreter that has distill; default the project's own environment
#   DISTILL_API_KEY        where the servers want one; it is handed on in the environment alone
#
# Ten minutes before the time limit Slurm sends SIGUSR1: the harvest saves and ends, the servers stop, and the job is
# requeued; it goes on where it was. SIGTERM does the same without the requeue. Exit status: the harvest's, 6 where a
# server does not come up, 2 for wrong arguments. What of this was run where: docs/scale-out.md.
#SBATCH --job-name=distill-harvest
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -uo pipefail

root="${DISTILL_ROOT:-}"
if [[ -z "$root" ]]; then # under Slurm this file is a copy elsewhere
    root="${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}"
fi
if [[ ! -f "$root/scripts/slurm/serving.sh" ]]; then
    echo "error: $root has no scripts/slurm; submit from the checkout, or set DISTILL_ROOT." >&2
    exit 2
fi
# shellcheck source=scripts/slurm/serving.sh
source "$root/scripts/slurm/serving.sh"

usage() {
    echo "error: $1; usage: harvest.sh [--local REPLICAS] RECIPE OUT [options of distill harvest]" >&2
    exit 2
}

local_replicas=0
if [[ "${1:-}" == --local ]]; then
    local_replicas="${2:-}"
    [[ "$local_replicas" =~ ^[1-9][0-9]*$ ]] || usage "--local: expected a number of replicas, found '${2:-}'"
    shift 2
fi
(($# >= 2)) || usage "expected RECIPE and OUT"
recipe="$1" out="$2"
shift 2
((local_replicas)) || [[ -n "${SLURM_JOB_ID:-}" ]] || usage "not a Slurm job; submit it with sbatch, or give --local"
((local_replicas)) && unset SLURM_JOB_ID

python="${PYTHON:-${DISTILL_VENV:-$root/.venv}/bin/python}"
engine="${ENGINE:-vllm}" command="${COMMAND:-}" replica_nodes="${REPLICA_NODES:-2}"
((local_replicas)) && replica_nodes=1
router="${ROUTER:-$engine}" port="${PORT:-8000}"
health="${HEALTH_PATH:-/health}" health_seconds="${HEALTH_SECONDS:-3600}"
[[ "$engine" == command && -z "${ROUTER:-}" ]] && router=none
[[ "$router" =~ ^(vllm|sglang|none)$ ]] || usage "ROUTER: expected vllm, sglang or none, found '$router'"
log_dir="$out/servers"
mkdir -p "$log_dir" || exit 2

if [[ -z "$command" ]]; then
    command="$(card_command "${TEACHER:-deepseek-r1}" "$engine" "$replica_nodes")" || exit 2
fi

nodes=()
if [[ -n "${SLURM_JOB_ID:-}" ]]; then
    mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
    ((${#nodes[@]} % replica_nodes == 0)) ||
        usage "${#nodes[@]} nodes are not a multiple of REPLICA_NODES=$replica_nodes"
else
    for ((number = 0; number < local_replicas; number++)); do nodes+=(127.0.0.1); done
fi

urls=()
serve() { # all replicas and the router, until they answer; their addresses go to `urls`
    local number router_port="${ROUTER_PORT:-$((port + 1000))}"
    for ((number = 0; number * replica_nodes < ${#nodes[@]}; number++)); do
        start_replica "$number" "$((port + (local_replicas ? number : 0)))" \
            "${nodes[@]:number * replica_nodes:replica_nodes}"
    done
    for number in "${!server_urls[@]}"; do
        wait_until_healthy "$number" "${server_urls[number]}$health" "$health_seconds" || return
    done
    urls=("${server_urls[@]}")
    [[ "$router" != none ]] || return 0
    start_router "$router" "$router_port"
    urls=("http://127.0.0.1:$router_port")
    wait_until_healthy "$((${#server_pids[@]} - 1))" "${urls[0]}/health" "$health_seconds"
}

harvest_pid=""
harvest() { # from `urls`; the harvest's exit status, also where a trapped signal ended a `wait`
    local options=() url status model
    model="$(served_model "${server_urls[0]}/v1/models")" # a router may list another name, which is part of every key
    [[ -z "$model" || " $* " == *" --model"* ]] || options+=(--model "$model")
    for url in "${urls[@]}"; do options+=(--base-url "$url/v1"); done
    "$python" -m distill harvest "$recipe" --out "$out" "${options[@]}" "$@" &
    harvest_pid=$!
    while true; do
        wait "$harvest_pid"
        status=$?
        kill -0 "$harvest_pid" 2>/dev/null || return "$status"
    done
}

signal_seen=""
# shellcheck disable=SC2329  # the traps below call it
on_signal() { # the harvest saves and ends, and then so does the script
    signal_seen="$1"
    echo "received SIG$1: stopping" >&2
    [[ -z "$harvest_pid" ]] || kill -TERM "$harvest_pid" 2>/dev/null
}
for name in USR1 TERM INT; do
    # shellcheck disable=SC2064  # the name of now
    trap "on_signal $name" "$name"
done
trap stop_servers EXIT

status=0
serve || status=$?
if ((status == 0)); then
    harvest "$@" || status=$?
fi
stop_servers
if [[ "$signal_seen" == USR1 && "$status" != 0 ]]; then
    if [[ -n "${SLURM_JOB_ID:-}" ]]; then
        echo "requeueing job $SLURM_JOB_ID; it goes on where it was" >&2
        scontrol requeue "$SLURM_JOB_ID"
    else
        echo "the time is over; the same command goes on where it was" >&2
    fi
fi
exit "$status"
