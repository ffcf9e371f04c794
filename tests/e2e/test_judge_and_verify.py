"""A harvest with a judge, decided again, on the command line: `distill harvest`, `verify` and `curate`."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
SECRET = "sk-the-judge-must-not-tell-0815"


@pytest.fixture
def sums(tmp_path: Path) -> Callable[..., list[str]]:
    """Arguments of a recipe of six sums; the teacher adds right, `golds` says what is held for right."""

    def arguments(verb: str, golds: list[str], *extra: str, **settings: Any) -> list[str]:
        path = tmp_path / "sums.jsonl"
        path.write_text(
            "".join(json.dumps({"q": f"{at}+1", "a": gold, "id": f"p{at}"}) + "\n" for at, gold in enumerate(golds))
        )
        source = f"{{path: {path}, prompt: q, answer: a, id: id, domain: d, licence: mit, verifier: exact}}"
        given = {"problems.train": f"[{{jsonl: {source}}}]", "harvest.samples_per_problem": 1} | settings
        sets = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
        return [verb, "toy/quick", "--out", str(tmp_path / "run"), *sets, *extra]

    return arguments


RIGHT = [str(at + 1) for at in range(6)]


def test_gold_answers_are_mended_without_a_new_harvest(distill, query, start, sums, tmp_path):
    teacher = start("engines/misbehaving_server.py")
    url = ("--base-url", f"http://127.0.0.1:{teacher}")
    wrong_gold = [*RIGHT[:4], "99", "99"]
    done = distill(*sums("harvest", wrong_gold, *url, "--json"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accepted"] == 4
    assert json.loads(distill(*sums("curate", wrong_gold, "--json")).stdout)["kept"] == 4
    again = distill(*sums("verify", wrong_gold, "--json"))
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["verified"] == 0
    everything = json.loads(distill(*sums("verify", wrong_gold, "--all", "--json")).stdout)
    assert (everything["verified"], everything["changed"], everything["unstable"]) == (6, 0, 0)
    mended = distill(*sums("verify", RIGHT))
    assert mended.returncode == 0, mended.stderr
    assert "6 samples, 4 left alone (their verdict is current), 2 verified now, 2 changed" in mended.stdout
    assert "wrong -> correct" in mended.stdout
    assert json.loads(distill(*sums("curate", RIGHT, "--json")).stdout)["kept"] == 6
    assert query(tmp_path / "run", "SELECT count(*) FROM samples") == [(6,)]
    assert query(tmp_path / "run", "SELECT outcome, count(*) FROM verdicts GROUP BY 1 ORDER BY 1") == [
        ("correct", 6),
        ("wrong", 2),
    ]


def test_verify_before_a_harvest_says_what_to_run(distill, sums):
    done = distill(*sums("verify", RIGHT))
    assert done.returncode == 2
    assert "nothing is harvested yet; run `distill harvest toy/quick" in done.stderr


def test_a_judge_turns_verdicts_apart_and_curation_takes_them_or_not(
    distill, query, start, sums, tmp_path, monkeypatch
):
    """The teacher's 5 is "5.0" in the gold answers of two problems: not the same letters, the same number."""
    monkeypatch.setenv("DISTILL_JUDGE_API_KEY", SECRET)
    teacher = start("engines/misbehaving_server.py")
    judge = start("verify/judge_server.py", key=SECRET, echo_key=True)
    golds = [RIGHT[0], "2.0", "6/2", "99", RIGHT[4], RIGHT[5]]
    asked = {"harvest.judge": f"{{base_url: 'http://127.0.0.1:{judge}/v1', outcomes: [wrong], check_share: 1.0}}"}
    done = distill(*sums("harvest", golds, "--base-url", f"http://127.0.0.1:{teacher}", "--json", **asked))
    assert done.returncode == 0, done.stderr
    assert "judge strict-judge: 6 verdicts, 0 from the ledger; turned: wrong -> correct 2" in done.stderr
    assert json.loads(done.stdout)["accepted"] == 3  # the verifier's own figure
    record = json.loads((tmp_path / "run" / "run.json").read_text())["harvest"]["judge"]
    assert record["turned"] == {"wrong -> correct": 2} and record["agreement"]["pairs"] == 6
    kept = json.loads(distill(*sums("curate", golds, "--json", **asked)).stdout)
    assert kept["kept"] == 5
    own = {"curation": "[{verified: {verifiers: [exact]}}]"}
    assert json.loads(distill(*sums("curate", golds, "--json", **asked, **own)).stdout)["kept"] == 3
    loose = {"curation": "[{verified: {accept: any}}]"}
    assert json.loads(distill(*sums("curate", golds, "--json", **asked, **loose)).stdout)["kept"] == 6
    assert json.loads(distill(*sums("curate", golds, "--json")).stdout)["kept"] == 3  # a recipe without a judge
    without = distill(*sums("curate", golds, **{"curation": "[{verified: {verifiers: [exact, judge]}}]"}))
    assert without.returncode == 2 and "verifiers names judge, but harvest.judge is not set" in without.stderr
    again = distill(*sums("verify", golds, "--judge", "--json", **asked))
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["judge"]["from_ledger"] == 6
    with urllib.request.urlopen(f"http://127.0.0.1:{judge}/stats", timeout=30) as reply:
        assert sum(json.load(reply).values()) == 6
    written = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    said = [text.encode() for each in (done, again) for text in (each.stdout, each.stderr)]
    assert not any(SECRET.encode() in text for text in [*written, *said])


def test_verify_with_a_judge_needs_one_in_the_recipe(distill, start, sums):
    teacher = start("engines/misbehaving_server.py")
    assert distill(*sums("harvest", RIGHT, "--base-url", f"http://127.0.0.1:{teacher}")).returncode == 0
    done = distill(*sums("verify", RIGHT, "--judge"))
    assert done.returncode == 2 and "harvest.judge is not set" in done.stderr
