r"""Runs that may not be judged, each provoked with a real server: all INVALID, each with its own reason.

pytest tests/gate/test_validity_samples.py
"""

import json
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from distill.cards import ReasoningFormat
from distill.engines.base import sample_through_ledger
from distill.engines.endpoint import EndpointEngine
from distill.evaluate.observation import item_of, observe_all
from distill.evaluate.result import EvalResult, TaskResult, with_unanswered
from distill.gate.rounds import complete_rounds
from distill.gate.spec import Gate
from distill.gate.validity import invalid_reasons, prompt_hashes, recorded_prompts
from distill.recipes import Endpoint
from distill.records import Problem, SampleRequest, SamplingParams
from distill.store.ledger import Ledger
from distill.verify.base import verify

SERVER = Path(__file__).resolve().parents[1] / "engines" / "misbehaving_server.py"
PARAMS = SamplingParams(0.6, 0.95, 64)
N = 12


def problems_of(number, stalling=()):
    return [
        Problem(
            id=f"p{at}", prompt=f"{'[[stall*99]] ' * (at in stalling)}What is {at} + 4?", answer=str(at + 4),
            verifier="exact", family="sums", domain="math", source="test", licence="none",
        )
        for at in range(number)
    ]  # fmt: skip


def verify_all(pairs):
    return [verify(problem, sample) for problem, sample in pairs]


def requests_of(engine, problems, k):
    return [
        SampleRequest(problem.id, engine.render(problem.prompt), at, PARAMS, 3)
        for problem in problems
        for at in range(k)
    ]


def score(engine, ledger, problems, k, requests=None):
    """The result of these samples, as an evaluation makes it; the engine draws what the ledger does not have."""
    requests = requests or requests_of(engine, problems, k)
    drawn = {problem.id: [] for problem in problems}
    for sample in sorted(sample_through_ledger(engine, ledger, requests), key=lambda sample: sample.index):
        drawn[sample.problem_id].append(sample)
    items = tuple(
        item_of(each, observe_all([(each, sample, verify(each, sample)) for sample in drawn[each.id]], verify_all))
        for each in problems
    )
    task = TaskResult("sums", 1.0, k, len(problems), items)
    return EvalResult(engine.model, engine.fingerprint, PARAMS.to_dict(), 3, {"sums": task}, 0, 0, 0.0)


@pytest.fixture(scope="module")
def server():
    process = subprocess.Popen([sys.executable, str(SERVER), "{}"], stdout=subprocess.PIPE, text=True)
    yield int(process.stdout.readline())
    process.kill()
    process.wait()


@pytest.fixture
def run(server, tmp_path, monkeypatch):
    """Sets the server up, evaluates N sums on it, and gives the result, the engine and the ledger."""
    monkeypatch.setattr("distill.engines.endpoint_retry.FIRST_BACKOFF_SECONDS", 0.05)
    ledgers = []

    def evaluated(*, k=2, items=N, **settings):
        usual = {"style": "reasoning", "same": None, "cut": 0.0, "after": "", "pieces": 4}
        body = json.dumps({**usual, **settings}).encode()
        urllib.request.urlopen(f"http://127.0.0.1:{server}/control", data=body, timeout=30).read()
        ledgers.append(Ledger.open(tmp_path / f"ledger-{len(ledgers)}.db", create=True))
        engine = engine_at(server)
        return score(engine, ledgers[-1], problems_of(items), k), engine, ledgers[-1]

    yield evaluated
    for ledger in ledgers:
        ledger.close()


def engine_at(port):
    impatient = {"idle_seconds": 0.6, "first_token_seconds": 3.0, "give_up_seconds": 4.0, "max_attempts": 1}
    return EndpointEngine.open(
        [f"http://127.0.0.1:{port}/v1"], name="t", served=None, settings=Endpoint(**impatient), params=PARAMS,
        reasoning=ReasoningFormat(open_marker="<think>", close_marker="</think>", opened_by_prompt=False),
        require_reasoning=False,
    )  # fmt: skip


def gate(**validity):
    wants = {"against": "constant", "minimum": 0.5}
    return Gate(kind="gate", name="g", description="d", tasks=["sums"], comparisons=[wants], validity=validity)


def reasons(result, who="student", **validity):
    found = invalid_reasons(gate(**validity), {"student": result, who: result})
    assert all(reason.startswith(("student on sums: ", f"{who} on sums: ")) for reason in found)
    return [reason for reason in found if reason.startswith(who)]


def test_a_good_run_is_valid(run):
    result, _, _ = run(k=2)
    scores = result.tasks["sums"].scores
    assert scores["pass@1"] == 1.0 and scores["extractor_disagreement_rate"] == 0.0
    assert scores["unclosed_rate"] == scores["unanswered_rate"] == 0.0
    assert reasons(result, min_distinct_sample_rate=1.0) == []


def test_one_completion_for_every_seed(run):
    result, _, _ = run(k=3, same="seed")
    (found,) = reasons(result)
    assert "all 3 samples are the same text on every one of 12 items: 12 distinct texts in 36 samples" in found
    assert "ignores the seed" in found
    assert invalid_reasons(gate(), {"student": result}, heed_seeds=["student"]) == [], "a probe has cleared it"
    assert reasons(result, who="base")[0].endswith(found.removeprefix("student on sums: "))


def test_a_low_share_of_distinct_samples(run):
    """Too few items for the check that all are the same, so only the cap of the gate file finds it."""
    result, _, _ = run(k=4, items=3, same="seed")
    assert reasons(result) == []
    (found,) = reasons(result, min_distinct_sample_rate=0.5)
    assert "distinct_sample_rate 25.0% (3 distinct texts in 12 samples), at least 50.0%" in found


def test_one_completion_for_every_prompt(run):
    result, _, _ = run(k=1, same="prompt")
    (found,) = reasons(result)
    assert "the same text on all 12 items; the server does not read the prompt" in found


class OneSeed(SampleRequest):
    """What lm-eval's own API models send: the same seed with every request."""

    @property
    def seed(self):
        return 1234


def test_a_seed_that_all_samples_share(run):
    _, engine, ledger = run(k=1, items=1)
    requests = [OneSeed(each.problem_id, each.prompt, each.index, each.params, each.run_seed)
                for each in requests_of(engine, problems_of(N), 2)]  # fmt: skip
    (found,) = reasons(score(engine, ledger, problems_of(N), 2, requests))
    assert "share a seed, so they are copies: 12 distinct seeds in 24 samples of 12 items" in found


def test_truncated_reasoning(run):
    result, _, _ = run(k=2, cut=1.0)
    (found,) = reasons(result)
    assert "truncation_rate 100.0%, at most 10.0% is allowed; raise max_new_tokens." in found
    assert reasons(result, who="base") == [] and reasons(result, max_truncation_rate=None) == []


def test_reasoning_that_is_never_closed(run):
    result, _, _ = run(k=2, style="unclosed")
    assert result.tasks["sums"].scores["pass@1"] == 0.0, "a right answer stands in the thought"
    (found,) = reasons(result)
    assert "unclosed_rate 100.0%, at most 5.0% is allowed" in found and "close marker" in found
    both = reasons(result, max_no_answer_rate=0.2)
    assert len(both) == 2 and "no_answer_rate 100.0%, at most 20.0%" in both[1]


def test_extractors_that_disagree(run):
    r""" "\boxed{7} No, the answer is 8.": the verifier reads the box, the second extractor what comes last."""
    result, _, _ = run(k=2, after=" No, wait. The answer is {more}.")
    assert result.tasks["sums"].scores["pass@1"] == 1.0
    (found,) = reasons(result)
    assert "extractor_disagreement_rate 100.0%, at most 5.0% is allowed" in found
    assert reasons(result, max_extractor_disagreement_rate=None) == []
    harmless, _, _ = run(k=1, after=" That is $7 per day, for 3 days.")
    assert reasons(harmless) == []


def test_too_few_samples_and_samples_that_were_given_up(run):
    """One question in twelve always stalls: its sample is missing, or, where the rounds saw it, an observed failure."""
    _, engine, ledger = run(k=1, items=1)
    problems = problems_of(N, stalling=[5])
    asked = {problem.id: problem for problem in problems}
    source = complete_rounds(engine, ledger, asked, PARAMS, run_seed=3, verify=verify_all, max_rounds=1)
    (only,) = list(source)
    rest = [problem for problem in problems if problem.id not in only.unanswered]
    result = score(engine, ledger, rest, 1)
    never = replace(result.tasks["sums"].items[0], problem_id="p5", outcomes=(), answers=(), completion_tokens=())
    never = replace(never, answer_classes=(), sample_keys=())
    task = replace(result.tasks["sums"], items=(*result.tasks["sums"].items, never), n_items_in_task=N)
    result = replace(result, tasks={"sums": task})
    (missing,) = reasons(result)
    assert "11 samples, expected 12 (12 items x 1); 1 items have another number, e.g. item p5 has 0" in missing
    result = with_unanswered(result, {"sums": dict.fromkeys(only.unanswered, 1)})
    (found,) = reasons(result)
    assert "unanswered_rate 8.3%, at most 5.0% is allowed; the engine gave these requests up" in found
    assert invalid_reasons(gate(max_unanswered_rate=0.1), {"student": result}) == []


def test_samples_of_another_prompt(run):
    """A ledger is replayed after the task's instruction changed."""
    result, engine, _ = run(k=1)
    problems = problems_of(N)
    today = {"student": prompt_hashes(engine.render, problems)}
    assert invalid_reasons(gate(), {"student": result}, prompts=today) == []
    changed = [replace(problem, prompt=f"{problem.prompt}\nThink first.") for problem in problems]
    later = {"student": prompt_hashes(engine.render, changed)}
    (found,) = invalid_reasons(gate(), {"student": result}, prompts=later)
    assert "12 of 12 items were asked with another prompt than the task's, e.g. item p0" in found


def test_a_ledger_whose_dataset_was_mended_since(run):
    """The same ids, one question rewritten: the samples of that item answer the old one."""
    result, _, _ = run(k=1)
    items, problems = result.tasks["sums"].items, problems_of(N)
    assert invalid_reasons(gate(), {"student": result}, prompts={"student": recorded_prompts(items, problems)}) == []
    mended = [*problems[:-1], replace(problems[-1], prompt="What is 11 + 4, in words?")]
    prompts = {"student": recorded_prompts(items, mended)}
    (found,) = invalid_reasons(gate(), {"student": result}, prompts=prompts)
    assert "1 of 12 items were asked with another prompt than the task's, e.g. item p11" in found
    rendered = [replace(each, prompt=f"<user>{each.prompt}") for each in problems]
    assert recorded_prompts(items, rendered) == {}, "another template: nothing can be said"


def test_samples_of_two_prompts(run):
    """The chat template changed between the first sample of an item and the second."""
    _, engine, ledger = run(k=1, items=1)
    first, second = (requests_of(engine, problems_of(N), 2)[at::2] for at in (0, 1))
    mixed = [*first, *(replace(each, prompt=f"User: {each.prompt}") for each in second)]
    (found,) = reasons(score(engine, ledger, problems_of(N), 2, mixed))
    assert "12 items were asked with more than one prompt, e.g. item p0 with 2; one is allowed" in found


def test_samples_of_other_parameters(run):
    """The second sample of each item was drawn at another temperature."""
    _, engine, ledger = run(k=1, items=1)
    first, second = (requests_of(engine, problems_of(N), 2)[at::2] for at in (0, 1))
    mixed = [*first, *(replace(each, params=replace(PARAMS, temperature=1.0)) for each in second)]
    (found,) = reasons(score(engine, ledger, problems_of(N), 2, mixed))
    assert "drawn with 2 sets of parameters, one is allowed: temperature 0.6, top_p 0.95, 64 tokens" in found


def test_all_reasons_are_given(run):
    result, _, _ = run(k=3, same="seed", cut=1.0)
    found = reasons(result)
    assert len(found) == 2 and "the same text" in found[0] and "truncation_rate" in found[1]
