#!/usr/bin/env bash
# FP8 training measured on this machine's GPU, in under 9 minutes; needs torch 2.11 to 2.13, triton, transformers.
#
#   bash scripts/bench_gpu.sh [--parts correctness,step-7B] [--keep] [--seconds 500]
#
# Writes benchmarks/gpu/<device>.json after every row, and <device>.md from it; copies of both into $OUT if that is set.
# Correctness comes first; if it fails, the other parts still run and the exit status is 1. Each part has a share of
# --seconds and is left off with a note when it is spent. --keep leaves the parts that are not run now in the file, so
# that a second call can add what the first had no time for:
#
#   bash scripts/bench_gpu.sh --keep --parts step-14B,step-32B,compiled
#
# Exit status: 0; 1 something is wrong on this device; 2 wrong arguments; 6 no GPU (nothing is written or printed).
#
# On a machine lent through a tool that copies this tree there and brings $OUT back: one command is the line above, with
# a limit of 600 seconds. The tree must stay under 64 MiB (it is far below), two files come back (8 are allowed, 16 MiB
# each). The tree comes without .git: give the commit, and the wheel of torchao if it is to be compared:
#
#   BENCH_COMMIT=$(git rev-parse HEAD) bash scripts/bench_gpu.sh        # type the hash out in the command
#   PYTHONPATH=/tmp/site bash scripts/bench_gpu.sh                      # after pip install --target /tmp/site .whl/*.whl
#
# Python is $PYTHON, else the project's own environment, else python3. Nothing is installed; settings of the GPU are
# read and never changed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

python="${PYTHON:-}"
if [[ -z "$python" ]]; then
    python="${DISTILL_VENV:-.venv}/bin/python"
    [[ -x "$python" ]] || python=python3
fi
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "bench_gpu: $python has no torch, so no GPU can be used and nothing was measured; set PYTHON." >&2
    exit 6
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
# A part looks at the clock between its measurements; this is for one that hangs. What it wrote stays.
timeout --signal=TERM --kill-after=10 "${BENCH_HARD_LIMIT:-535}" "$python" -m benchmarks.gpu.run "$@"
status=$?
if ((status == 124 || status == 137)); then
    echo "bench_gpu: stopped at the hard limit; the file has what was measured until then." >&2
    exit 1
fi
exit "$status"
