#!/usr/bin/env bash
# A virtual environment for each peer of the side-by-side harvest benchmark, with pinned versions.
#
#   bash benchmarks/harvest/setup_peers.sh [DIR] [NAME]...      # DIR: runs/peers, which git ignores; NAME: all of them
#
# An environment that is there is left alone. What each peer needs beyond its own package:
#   curator     fetches tiktoken's cl100k_base when it starts and ends without it; clients/curator_llm.py replaces it,
#               except in scenario F, which counts that it cannot start
#   distilabel  imports `requests` without requiring it
#   datatrove   names aiosqlite, aiofiles, orjson and xxhash only in the errors it raises without them, and openai too
#               for addresses other than 127.0.0.1
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

folder="${1:-runs/peers}"
[[ $# -gt 0 ]] && shift
wanted=" ${*:-all} "

peer() {
    local name="$1"
    shift
    [[ "$wanted" == " all " || "$wanted" == *" $name "* ]] || return 0
    [[ -e "$folder/$name/.complete" ]] && return 0
    echo "== $name: $*" >&2
    rm -rf "${folder:?}/$name"
    "${PYTHON:-python3}" -m venv "$folder/$name"
    "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2
    touch "$folder/$name/.complete"
}

peer openai openai==2.30.0 httpx_aiohttp==0.2.0
peer openr1 aiohttp==3.14.5 uvloop==0.23.0 aiofiles
peer flexllm flexllm==0.17.10
peer datatrove datatrove==0.10.1 openai==2.30.0 aiosqlite aiofiles orjson xxhash
peer curator bespokelabs-curator==0.1.31
peer distilabel 'distilabel[openai]==1.5.3' requests
