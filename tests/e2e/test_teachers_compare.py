"""`distill teachers compare` against two servers and the embedded teacher: figures, killed and resumed, refused."""

from __future__ import annotations

import json
import signal

import pytest

POOR = {"models": ["poor"], "pieces": 9, "wrong": 0.2, "cut": 0.15, "foreign": 0.3}
SECRET = "sk-never-to-be-written-4712"


@pytest.fixture
def compare(tmp_path):
    """Arguments of a comparison on 40 sums."""

    def arguments(*ports: int, problems: int = 40) -> list[str]:
        rows = [{"prompt": f"{at}+1", "answer": str(at + 1)} for at in range(40)]
        (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        urls = [part for port in ports for part in ("--base-url", f"http://127.0.0.1:{port}")]
        sets = [
            part for part in ("harvest.max_new_tokens=200", "endpoint.max_in_flight=8", "endpoint.give_up_seconds=5")
        ]
        settings = [word for part in sets for word in ("--set", part)]
        out = ["--out", str(tmp_path / "out"), "--problems", str(problems)]
        return ["teachers", "compare", str(tmp_path / "sums.jsonl"), *out, *urls, *settings]

    return arguments


def test_three_teachers(distill, query, start, compare, tmp_path, served):
    """Their figures are those of the servers' settings; a second comparison draws nothing and says the same."""
    ports = [start(models=["good"]), start(**POOR)]
    command = [*compare(*ports), "--teacher", "tiny", "--json"]
    done = distill(*command)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    good, poor, tiny = result["teachers"]
    assert (good["name"], poor["name"], tiny["name"]) == ("good", "poor", "tiny")
    assert (good["accepted"], good["truncation_rate"], good["mixing_rate"]) == (40, 0.0, 0.0)
    assert 0.4 < poor["accept_rate"] < 0.85  # the servers' shares are 0.65, 0.15 and 0.3
    assert 0.0 < poor["truncation_rate"] < 0.4
    assert 0.1 < poor["mixing_rate"] < 0.55
    assert poor["tokens_per_accepted"] > 2 * good["tokens_per_accepted"]
    assert tiny["samples"] == 40 and tiny["tokens_median"] > 10
    pair = result["pairs"][0]
    assert (pair["one"], pair["other"], pair["problems"]) == ("good", "poor", 40)
    assert pair["accept_interval"][0] > 0 and pair["mcnemar_p"] < 0.05 and pair["cost_interval"][1] < 1
    assert pair["both_answered"] == 40 - round(40 * poor["truncation_rate"])
    page = (tmp_path / "out" / "compare.html").read_text()
    assert all(f"{each['accept_rate']:.1%}" in page for each in result["teachers"])
    asked = [served(port)["served"] for port in ports]
    again = json.loads(distill(*command).stdout)
    assert [each["samples_drawn"] for each in again["teachers"]] == [0, 0, 0]
    more = [served(port)["served"] - before for port, before in zip(ports, asked, strict=True)]
    assert max(more) < 20  # the probes
    assert query(tmp_path / "out", "SELECT count(*), count(DISTINCT key) FROM samples") == [(120, 120)]
    timing = {"samples_drawn", "seconds"}
    for before, after in zip(result["teachers"], again["teachers"], strict=True):
        assert {k: v for k, v in before.items() if k not in timing} == {
            k: v for k, v in after.items() if k not in timing
        }
    assert again["pairs"] == result["pairs"]


def test_killed_and_resumed(distill, query, start, compare, tmp_path):
    ports = [start(models=["good"], seconds=0.2), start(**POOR, seconds=0.2)]
    command = compare(*ports)
    some = lambda: len(query(tmp_path / "out", "SELECT 1 FROM samples")) >= 50  # noqa: E731
    code, err = distill.interrupt(some, signal.SIGKILL, *command)
    assert code == -signal.SIGKILL, err
    kept = dict(query(tmp_path / "out", "SELECT key, text FROM samples"))
    assert 50 <= len(kept) < 80
    done = distill(*command, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert sum(each["samples_drawn"] for each in result["teachers"]) == 80 - len(kept)
    found = query(tmp_path / "out", "SELECT key, text FROM samples")
    assert len(found) == len(dict(found)) == 80
    assert kept.items() <= dict(found).items()


def test_one_is_dead_and_nothing_is_spent(distill, query, start, compare, tmp_path):
    """Exit code 6 before anything is sampled, whichever it is."""
    port = start(models=["good"])
    done = distill(*compare(port, 1))
    assert done.returncode == 6, done.stderr
    assert "http://127.0.0.1:1/v1" in done.stderr and "unreachable" in done.stderr
    assert "Traceback" not in done.stderr
    assert query(tmp_path / "out", "SELECT count(*) FROM samples") == [(0,)]
    assert not (tmp_path / "out" / "compare.json").exists()


def test_two_providers_of_one_model_are_told_apart(distill, query, start, compare, tmp_path, monkeypatch):
    """And the key that both want, and repeat in what they say, is nowhere."""
    monkeypatch.setenv("DISTILL_API_KEY", SECRET)
    known = {"models": ["same"], "key": SECRET, "echo": True}
    ports = [start(**known), start(**{**POOR, **known})]
    done = distill(*compare(*ports), "--json")
    assert done.returncode == 0, done.stderr
    one, other = json.loads(done.stdout)["teachers"]
    assert [one["name"], other["name"]] == [f"same@127.0.0.1:{port}" for port in ports]
    assert one["accepted"] == 40 > other["accepted"]
    assert query(tmp_path / "out", "SELECT count(DISTINCT model_fingerprint) FROM samples") == [(2,)]
    assert SECRET not in done.stdout + done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


def test_bad_input(distill, compare):
    for arguments, message in (
        (compare(), "found no teacher; give --base-url URL"),
        ([*compare(), "--teacher", "tiny", "--teacher", "deepsek-r1"], "did you mean 'deepseek-r1'"),
        ([*compare(1, 2, problems=0)], "--problems: expected at least 1, found 0"),
        ([*compare(1, 2), "--set", "harvest.top_p=2"], "top_p"),
    ):
        done = distill(*arguments)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
