#!/usr/bin/env bash
# Functions of harvest.sh: servers of replicas and the router, started, waited for and stopped. To be sourced.
#
# Under Slurm (SLURM_JOB_ID is set) a replica is one `srun` over its nodes; without, it is processes of this machine.
# Every server is a process group of its own, and its output goes to $log_dir/NAME.log. harvest.sh sets root, python,
# engine, command, log_dir, and signal_seen when it is to stop.
# shellcheck disable=SC2154  # these come from harvest.sh

server_pids=()
server_names=()
server_urls=()

card_command() { # TEACHER ENGINE NODES: the card's command that serves it so; 2 where it has none
    "$python" - "$@" <<'PYTHON'
import sys
from distill.cards import load_teacher
from distill.errors import DistillError
name, engine, nodes = sys.argv[1:]
try:
    card = load_teacher(name)
except DistillError as error:
    sys.exit(print(f"error: {error}", file=sys.stderr) or 2)
for serving in card.serving:
    if (serving.engine, str(serving.nodes)) == (engine, nodes):
        sys.exit(print(serving.command))
known = ", ".join(f"{serving.engine} on {serving.nodes}" for serving in card.serving)
print(f"error: teacher '{name}' has no `serving` entry for {engine} on {nodes} nodes; it has {known}. Set ENGINE and "
      "REPLICA_NODES to one of these, or COMMAND.", file=sys.stderr)
sys.exit(2)
PYTHON
}

start_in_group() { # NAME COMMAND...: a process group of its own, so that it can be stopped with all its children
    local name="$1"
    shift
    setsid "$@" >>"$log_dir/$name.log" 2>&1 </dev/null &
    server_pids+=("$!")
    server_names+=("$name")
    echo "started $name (process $!), log: $log_dir/$name.log" >&2
}

start_replica() { # NUMBER PORT NODE...: one replica over these nodes; the first serves
    local number="$1" port="$2"
    shift 2
    local head="$1" nodes="$#" list
    list="$(IFS=,; echo "$*")"
    export ENGINE="$engine" COMMAND="$command" NODES="$nodes" HEAD="$head" PORT="$port"
    if [[ -n "${SLURM_JOB_ID:-}" ]]; then
        start_in_group "replica-$number" srun --overlap --kill-on-bad-exit=1 --nodes="$nodes" --ntasks="$nodes" \
            --ntasks-per-node=1 --nodelist="$list" bash "$root/scripts/slurm/serve_rank.sh"
    else
        start_in_group "replica-$number" bash "$root/scripts/slurm/serve_rank.sh"
    fi
    server_urls+=("http://$head:$port")
}

start_router() { # KIND PORT: in front of all replicas, on this node
    local kind="$1" port="$2" launcher=vllm-router
    [[ "$kind" == vllm ]] || launcher="python3 -m sglang_router.launch_router"
    read -ra launcher <<<"${ROUTER_COMMAND:-${SERVE_PREFIX:+$SERVE_PREFIX }$launcher}"
    # distill retries by itself, and a trace takes longer than a router's usual time limit of a request
    start_in_group router "${launcher[@]}" --host 0.0.0.0 --port "$port" --worker-urls "${server_urls[@]}" \
        --policy cache_aware --balance-abs-threshold 8 --balance-rel-threshold 1.1 \
        --request-timeout-secs 86400 --disable-retries --disable-circuit-breaker
}

is_healthy() { # URL: whether it answers; proxies are for the outside
    "$python" - "$1" <<'PYTHON'
import sys, urllib.error, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    opener.open(sys.argv[1], timeout=10)
except urllib.error.HTTPError as error:
    sys.exit(error.code >= 500)
except OSError:
    sys.exit(1)
PYTHON
}

served_model() { # URL: the only name that it serves; nothing where that cannot be told
    "$python" - "$1" <<'PYTHON' || true
import json, os, sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
request = urllib.request.Request(sys.argv[1])
if key := os.environ.get("DISTILL_API_KEY"):
    request.add_header("Authorization", f"Bearer {key}")
try:
    names = [entry["id"] for entry in json.load(opener.open(request, timeout=30))["data"]]
except (OSError, ValueError, KeyError, TypeError):
    names = []
if len(names) == 1:
    print(names[0])
PYTHON
}

wait_until_healthy() { # NUMBER URL SECONDS: server NUMBER answers; 6 if it ends or takes too long
    local pid="${server_pids[$1]}" name="${server_names[$1]}" url="$2" give_up_at=$((SECONDS + $3))
    until is_healthy "$url"; do
        [[ -z "${signal_seen:-}" ]] || return 143
        if ! kill -0 "$pid" 2>/dev/null; then
            echo "error: $name ended before it served anything; the end of $log_dir/$name.log:" >&2
            tail -n 20 "$log_dir/$name.log" >&2
            return 6
        fi
        if ((SECONDS >= give_up_at)); then
            echo "error: $name did not answer at $url in $3 s; see $log_dir/$name.log, or raise HEALTH_SECONDS." >&2
            return 6
        fi
        sleep "${HEALTH_POLL_SECONDS:-10}"
    done
    echo "$name answers at $url" >&2
}

stop_servers() { # SIGTERM to every group, SIGKILL to what is left after STOP_SECONDS
    local pid give_up_at=$((SECONDS + ${STOP_SECONDS:-60}))
    for pid in "${server_pids[@]}"; do
        kill -TERM -- "-$pid" 2>/dev/null || true
    done
    for pid in "${server_pids[@]}"; do
        while kill -0 -- "-$pid" 2>/dev/null && ((SECONDS < give_up_at)); do
            sleep 0.2
        done
        kill -KILL -- "-$pid" 2>/dev/null || true
    done
    server_pids=()
}
