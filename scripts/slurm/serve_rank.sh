#!/usr/bin/env bash
# One process of a served replica: the card's command, with what places this node among the replica's nodes.
#
#   ENGINE=vllm|sglang|command COMMAND='vllm serve ...' NODES=2 HEAD=node17 PORT=8000 bash scripts/slurm/serve_rank.sh
#
# Started by harvest.sh on every node of a replica, by srun or, without Slurm, here. The rank is SLURM_PROCID. ENGINE
# `command` runs COMMAND as it is, with PORT in its environment. SERVE_PREFIX goes in front of it, such as
# `apptainer exec --nv image.sif`. DRY_RUN=1 prints the command and ends. Flags of several nodes:
# vLLM, docs/serving/parallelism_scaling.md (multiprocessing); SGLang, references/multi_node_deployment.
set -euo pipefail

: "${ENGINE:?}" "${COMMAND:?}" "${PORT:?}"
nodes="${NODES:-1}"
head="${HEAD:-127.0.0.1}"
rank="${SLURM_PROCID:-0}"
meeting_port="${MEETING_PORT:-$((PORT + 10000))}"
export PORT

line="${SERVE_PREFIX:+$SERVE_PREFIX }$COMMAND"
case "$ENGINE" in
vllm)
    if ((nodes > 1)); then
        line+=" --nnodes $nodes --node-rank $rank --master-addr $head --master-port $meeting_port"
        line+=" --distributed-executor-backend mp"
    fi
    if ((rank == 0)); then
        line+=" --host 0.0.0.0 --port $PORT"
    else
        line+=" --headless"
    fi
    ;;
sglang)
    if ((nodes > 1)); then
        line+=" --nnodes $nodes --node-rank $rank --dist-init-addr $head:$meeting_port"
    fi
    line+=" --host 0.0.0.0 --port $PORT"
    ;;
command) ;;
*)
    echo "error: ENGINE=$ENGINE: expected vllm, sglang or command." >&2
    exit 2
    ;;
esac

if [[ -n "${DRY_RUN:-}" ]]; then
    echo "$line"
    exit 0
fi
exec bash -c "exec $line"
