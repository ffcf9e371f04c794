"""Who takes part: the script of each client, the environment it runs in, and what must be known to read its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent / "clients"


@dataclass(frozen=True)
class Entrant:
    """A client; `environment` is None for this toolkit's own."""

    title: str
    script: str
    environment: str | None
    packages: tuple[str, ...]
    note: str = ""

    def python(self, peers: Path) -> Path:
        return Path(sys.executable) if self.environment is None else peers / self.environment / "bin" / "python"

    def versions(self, peers: Path) -> dict[str, str] | None:
        """Installed versions, None where the environment is missing."""
        if not self.python(peers).exists():
            return None
        code = "import importlib.metadata as m, json, sys; print(json.dumps({p: m.version(p) for p in sys.argv[1:]}))"
        command = [str(self.python(peers)), "-c", code, *self.packages]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return json.loads(found.stdout) if found.returncode == 0 else None


OPENAI, AIOHTTP = ("openai", "httpx"), ("openai", "httpx-aiohttp")
STREAMS = "streams"
NO_TRACES = "drops the reasoning"
OUR_RESUME = "the file and its resume are our script's"
ROSTER = {
    "distill-harvest": Entrant(
        "**distill harvest** (command, verifies)", "distill_harvest.py", None, ("aiohttp",), STREAMS
    ),
    "distill-engine": Entrant(
        "**distill engine + ledger** (library)", "distill_engine.py", None, ("aiohttp",), STREAMS
    ),
    "datatrove": Entrant("datatrove, at 127.0.0.1", "datatrove_runner.py", "datatrove", ("datatrove",)),
    "datatrove-remote": Entrant(
        "datatrove, elsewhere", "datatrove_remote.py", "datatrove", ("datatrove", "openai"), NO_TRACES
    ),
    "flexllm": Entrant("flexllm", "flexllm_batch.py", "flexllm", ("flexllm",)),
    "open-r1-approach": Entrant(
        "open-r1's approach", "open_r1_approach.py", "openr1", ("aiohttp", "uvloop", "aiofiles"), "our script"
    ),
    "curator": Entrant("curator", "curator_llm.py", "curator", ("bespokelabs-curator", "litellm")),
    "openai-aiohttp": Entrant("AsyncOpenAI, aiohttp", "openai_aiohttp.py", "openai", AIOHTTP, OUR_RESUME),
    "openai-httpx": Entrant("AsyncOpenAI, httpx", "openai_httpx.py", "openai", OPENAI, OUR_RESUME),
    "openai-stream": Entrant("AsyncOpenAI, aiohttp, streaming", "openai_stream.py", "openai", AIOHTTP, STREAMS),
    "distilabel": Entrant("distilabel", "distilabel_pipeline.py", "distilabel", ("distilabel", "openai"), NO_TRACES),
}
