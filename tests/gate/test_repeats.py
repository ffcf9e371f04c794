"""The hot probe on a server that repeats one completion, on one that does not, and on the surest model there is.

pytest tests/gate/test_repeats.py
"""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from distill.cards import ReasoningFormat, load_student, load_teacher
from distill.engines.endpoint import EndpointEngine
from distill.engines.local import LocalEngine
from distill.evaluate.tasks import held_out_problems
from distill.gate.repeats import heeds_seed, repeats_itself
from distill.recipes import Endpoint
from distill.records import Problem, SampleRequest, SamplingParams
from distill.store.ledger import Ledger

SERVER = Path(__file__).resolve().parents[1] / "engines" / "misbehaving_server.py"
SUMS = [
    Problem(f"p{at}", f"What is {at} + 4?", str(at + 4), "exact", "sums", "math", "test", "none") for at in range(12)
]
REASONING = ReasoningFormat(open_marker="<think>", close_marker="</think>", opened_by_prompt=False)


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.db", create=True) as opened:
        yield opened


@pytest.fixture
def serve():
    """An engine over a real server with these settings, and how many requests it has had."""
    started = []

    def open_engine(**settings):
        command = [sys.executable, str(SERVER), json.dumps({"pieces": 20, **settings})]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        engine = EndpointEngine.open(
            [f"{url}/v1"], name="served", served=None, settings=Endpoint(max_attempts=1), reasoning=REASONING,
            params=SamplingParams(0.6, 0.95, 64), require_reasoning=False,
        )  # fmt: skip

        def requests():
            with urllib.request.urlopen(f"{url}/stats", timeout=30) as reply:
                return json.load(reply)["requests"]

        return engine, requests

    yield open_engine
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("same", ["seed", "prompt"])
@pytest.mark.parametrize("number", [1, 3, 12])
def test_a_server_that_repeats_one_completion(serve, ledger, same, number):
    engine, _ = serve(same=same)
    found = repeats_itself(engine, ledger, SUMS[:number], 0)
    assert found is not None and "served: other seeds gave the same text on every prompt" in found
    assert "at temperature 1.5 and 2;" in found and "ignores the seed" in found


def test_a_server_that_heeds_the_seed(serve, ledger):
    engine, requests = serve()
    before = requests()
    assert repeats_itself(engine, ledger, SUMS, 0) is None
    assert requests() - before == 16, "no second temperature where the first tells"
    assert repeats_itself(engine, ledger, SUMS, 0) is None
    assert heeds_seed(engine, ledger, SUMS, 0) is True
    assert requests() - before == 16, "the ledger has them"
    probes = list(ledger.samples())
    assert {sample.problem_id.partition("/")[0] for sample in probes} == {"probe"}


def test_an_accused_server_is_asked_again_by_the_next_run(serve, ledger):
    """It may have been mended meanwhile; what it says then is asked once."""
    engine, requests = serve(same="seed")
    before = requests()
    assert heeds_seed(engine, ledger, SUMS, 0) is False and requests() - before == 32
    assert heeds_seed(engine, ledger, SUMS, 0) is False and requests() - before == 64
    control(engine, same=None)
    assert heeds_seed(engine, ledger, SUMS, 0) is True and requests() - before == 80
    assert heeds_seed(engine, ledger, SUMS, 0) is True and requests() - before == 80


def control(engine, **settings):
    url = engine.probes[0].url.removesuffix("/v1")
    with urllib.request.urlopen(f"{url}/control", data=json.dumps(settings).encode(), timeout=30) as reply:
        reply.read()


def test_short_answers_are_no_evidence(serve, ledger):
    engine, _ = serve(same="seed", style="plain")
    assert repeats_itself(engine, ledger, SUMS, 0) is None and heeds_seed(engine, ledger, SUMS, 0) is None


@pytest.mark.slow
def test_a_sure_model_is_not_accused(ledger):
    """The embedded teacher gives two seeds the same text nearly always at 0.6; the embedded student is less sure."""
    problems = held_out_problems(["tiny"])
    reasoning = load_teacher("tiny").reasoning
    teacher, student = (
        LocalEngine.open(card.model_location, name=card.name, reasoning=reasoning, batch_size=32)
        for card in (load_teacher("tiny"), load_student("tiny"))
    )
    cool = SamplingParams(0.6, 0.95, 64)
    drawn = teacher.sample(
        SampleRequest(each.id, teacher.render(each.prompt), index, cool, 0) for each in problems[:6] for index in (0, 1)
    )
    texts = {(sample.problem_id, sample.text) for sample in drawn if sample is not None}
    assert len(texts) <= 8, "the teacher became unsure, so this test shows nothing"
    assert repeats_itself(teacher, ledger, problems, 0) is None
    assert repeats_itself(student, ledger, problems, 0) is None
