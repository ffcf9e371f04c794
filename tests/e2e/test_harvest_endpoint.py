"""`distill harvest` and `distill eval` with --base-url, against a server: killed, resumed, refused."""

from __future__ import annotations

import json
import re
import signal

import pytest

SECRET = "sk-never-to-be-written-4711"
PROBE_REQUESTS = 3 + 1 + 6
"""Three, one without randomness, and one for each way to go on but the one that starts with /tokenize."""


@pytest.fixture
def harvest_of(tmp_path):
    """Arguments of a harvest of sums, `count` problems with 2 samples each."""

    def arguments(count: int, *ports: int, question: str = "{}+1") -> list[str]:
        rows = [{"q": question.format(at), "a": str(at + 1)} for at in range(count)]
        (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = (
            "{path: "
            + str(tmp_path / "sums.jsonl")
            + ", prompt: q, answer: a, domain: d, licence: mit, verifier: math}"
        )
        urls = [part for port in ports for part in ("--base-url", f"http://127.0.0.1:{port}")]
        settings = ["harvest.samples_per_problem=2", "endpoint.max_in_flight=8", "endpoint.give_up_seconds=20"]
        sets = [part for setting in settings for part in ("--set", setting)]
        out = ["--out", str(tmp_path / "run")]
        return ["harvest", "toy/quick", *out, "--set", f"problems.train=[{{jsonl: {source}}}]", *sets, *urls]

    return arguments


def test_kill_9_and_run_again(distill, query, start, harvest_of, tmp_path, served):
    """Nothing that was finished is asked for again, nothing is stored twice, nothing is missing."""
    port = start(seconds=0.25)
    command = harvest_of(60, port)
    enough = lambda: len(query(tmp_path / "run", "SELECT 1 FROM samples")) >= 40  # noqa: E731
    code, err = distill.interrupt(enough, signal.SIGKILL, *command)
    assert code == -signal.SIGKILL, err
    kept = dict(query(tmp_path / "run", "SELECT key, text FROM samples"))
    asked_before = served(port)["requests"]
    assert 40 <= len(kept) < 120
    done = distill(*command, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["samples"], figures["samples_from_ledger"], figures["accepted"]) == (120, len(kept), 120)
    found = query(tmp_path / "run", "SELECT key, text FROM samples")
    assert len(found) == len(dict(found)) == 120
    assert kept.items() <= dict(found).items()
    assert served(port)["requests"] - asked_before <= 120 - len(kept) + PROBE_REQUESTS
    assert asked_before - PROBE_REQUESTS <= len(kept) + 8 * 2  # what was in flight, and one turn of it
    assert query(tmp_path / "run", "SELECT count(*), count(DISTINCT sample_key) FROM verdicts") == [(120, 120)]


def test_a_signal_stops_cleanly(distill, query, start, harvest_of, tmp_path):
    command = harvest_of(60, start(seconds=0.25))
    some = lambda: len(query(tmp_path / "run", "SELECT 1 FROM samples")) >= 8  # noqa: E731
    code, err = distill.interrupt(some, signal.SIGTERM, *command)
    assert code == 143, err
    assert "error: interrupted; everything finished so far is saved" in err
    assert "Traceback" not in err


def test_faults_two_replicas_and_a_secret(distill, query, start, harvest_of, tmp_path, monkeypatch):
    """Through faults of every kind to the dataset; the key is in no file and in nothing that was printed."""
    monkeypatch.setenv("DISTILL_API_KEY", SECRET)
    ports = [start(key=SECRET, echo=True, noise=0.1, seconds=0.02) for _ in range(2)]
    command = harvest_of(6, *ports, question="{}+1 [[500*1]]")
    done = distill(*command, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples"] == 12
    record = json.loads((tmp_path / "run" / "run.json").read_text())["harvest"]["endpoint"]
    assert record["failures"]["server_error"] >= 12
    assert [probe["reasoning"] for probe in record["probes"]] == ["reasoning"] * 2
    assert all(replica["completed"] for replica in record["replicas"])
    curated = distill("curate", *command[1 : command.index("--base-url")], "--json")
    assert curated.returncode == 0, curated.stderr
    assert query(tmp_path / "run", "SELECT count(*) FROM samples") == [(12,)]
    reported = distill("report", tmp_path / "run")
    assert reported.returncode == 0, reported.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {".parquet", ".html", ".db", ".json"} <= {path.suffix for path in written}
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    assert all(SECRET not in each.stdout + each.stderr for each in (done, curated, reported))


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        ({"style": "plain"}, 2, "reasoning would be lost"),
        ({"key": "other"}, 6, "Set the key in DISTILL_API_KEY"),
        ({"models": ["a", "b"]}, 2, "say which to sample with --model NAME"),
    ],
)
def test_refused_before_anything_is_spent(distill, query, start, harvest_of, tmp_path, settings, code, message):
    done = distill(*harvest_of(3, start(**settings)))
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert query(tmp_path / "run", "SELECT count(*) FROM samples") in ([], [(0,)])


def test_nobody_there(distill, harvest_of):
    done = distill(*harvest_of(3, 1))
    assert done.returncode == 6, done.stderr
    assert "unreachable" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_task_is_evaluated_at_an_endpoint(distill, query, start, tmp_path):
    """It need not reason; a second evaluation draws nothing."""
    port = start(style="plain")
    command = ["eval", "toy", "--out", tmp_path / "run", "--base-url", f"http://127.0.0.1:{port}", "--model"]
    done = distill(*command, "tiny-served", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["model"], result["samples_drawn"]) == ("tiny-served", 10)
    again = distill(*command, "tiny-served", "--json")
    assert json.loads(again.stdout)["samples_drawn"] == 0
    assert query(tmp_path / "run", "SELECT count(*) FROM samples") == [(10,)]


def test_a_gate_on_a_served_model(distill, toy_run, start, tmp_path):
    """The served model takes the student's place; what it says to these problems is wrong."""
    out = toy_run.copy(tmp_path / "run", "gate", "report.html")
    port = start(style="plain", context=8192)
    done = distill("gate", "toy/quick", "--out", out, "--base-url", f"http://127.0.0.1:{port}", "--json")
    verdict = json.loads(done.stdout)["verdict"]
    student = json.loads((out / "eval" / "student.json").read_text())
    assert (student["model"], student["samples_drawn"]) == ("tiny-served", 20)
    assert (verdict["outcome"], done.returncode) in {("FAIL", 3), ("INCONCLUSIVE", 4), ("INVALID", 5)}
    assert verdict["outcome"] == json.loads((out / "gate" / "verdict.json").read_text())["outcome"] != "PASS"


def test_adaptive_and_a_budget(distill, query, start, harvest_of, tmp_path):
    """A budget ends the harvest with code 6, what is saved is curated, and a larger one goes on from there."""
    port, out = start(), tmp_path / "run"
    command = [*harvest_of(40, port), "--set", "harvest.adaptive={enough: 1}", "--set", "harvest.samples_per_problem=8"]
    stopped = distill(*command, "--set", "harvest.budget.tokens=100")
    assert stopped.returncode == 6
    assert "out of budget, budget.tokens: " in stopped.stderr and "raise harvest.budget.tokens" in stopped.stderr
    saved = query(out, "SELECT count(*) FROM samples")[0][0]
    assert 0 < saved < 40
    rest = distill(*command, "--json")
    assert rest.returncode == 0, rest.stderr
    figures = json.loads(rest.stdout)
    assert (figures["samples"], figures["samples_from_ledger"]) == (40, saved)
    assert figures["settled_by"] == {"enough": 40}
    curated = distill("curate", *[part for part in command[1:] if "127.0.0.1" not in part and part != "--base-url"])
    assert curated.returncode == 0 and "40 traces kept" in curated.stdout


@pytest.mark.parametrize("continues", ["continue_final_message", None])
def test_the_token_ladder(distill, query, start, harvest_of, tmp_path, continues, served):
    """What the first limit cuts goes on where the server can: each token is drawn once, and counted once.

    Where it cannot, the problem's next sample is drawn with the higher limit.
    """
    port, out = start(continues=continues, pieces=20), tmp_path / "run"
    ladder = "[4, 8]" if continues else "[8]"
    settings = ["harvest.samples_per_problem=3", "harvest.adaptive={enough: 1}", f"harvest.token_ladder={ladder}"]
    command = [*harvest_of(12, port), *(part for each in settings for part in ("--set", each))]
    before = served(port)["pieces"]
    done = distill(*command, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["accepted"], figures["settled_by"]) == (12, {"enough": 12})
    rows = query(out, "SELECT finish_reason, count(*), sum(completion_tokens) FROM samples GROUP BY 1 ORDER BY 1")
    cut = (24, 12 * (4 + 8)) if continues else (12, 12 * 8)
    assert rows == [("length", *cut), ("stop", 12, 12 * 21)]
    drawn = served(port)["pieces"] - before
    if continues:
        assert (figures["samples"], figures["completion_tokens"]) == (12, 12 * 21)
        assert 12 * 21 <= drawn <= 12 * 21 + 300  # the probe's too
        spliced = query(out, "SELECT text, splices FROM samples WHERE splices <> '[]'")
        ends = [text[:at] for text, splices in spliced for at in json.loads(splices)]
        assert len(ends) == 36 and all(re.search(r"step (3|7) of \d+\.$", end) for end in ends), ends
    else:
        assert (figures["samples"], figures["completion_tokens"]) == (24, 12 * 29)
    again = distill(*command, "--json")
    assert json.loads(again.stdout)["samples_from_ledger"] == figures["samples"]
    curated = distill("curate", *[part for part in command[1:] if "127.0.0.1" not in part and part != "--base-url"])
    assert curated.returncode == 0 and "12 traces kept" in curated.stdout, curated.stdout
