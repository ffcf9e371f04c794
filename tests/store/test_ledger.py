"""The ledger's promises: what it says is stored is there after anything; what is not a ledger is refused unchanged."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from distill.errors import EXIT_INFRASTRUCTURE, EXIT_USAGE, InfrastructureError, LedgerError
from distill.records import PartialTrace, ProblemYield, Sample, SamplingParams, TracePiece
from distill.store import ledger as ledger_module
from distill.store import schema
from distill.store.ledger import Ledger
from distill.store.schema import APPLICATION_ID


def test_samples_come_back_as_they_went_in(tmp_path, sample):
    odd = sample(1, text="π\0 \u2028 'quoted'", reasoning=None, answer=None, finish_reason="length", cost_usd=0.001)
    path = tmp_path / "a folder with 100% ? #" / "ledger.db"
    with Ledger.open(path, create=True) as ledger:
        assert ledger.add_samples([sample(0), odd]) == 2
    with Ledger.open(path) as ledger:
        assert ledger.get_samples(["key-1", "unknown", "key-0"]) == {"key-1": odd, "key-0": sample(0)}
        assert list(ledger.get_samples(["key-1", "key-0"])) == ["key-1", "key-0"]
        assert list(ledger.samples()) == [sample(0), odd]
        assert path.parent.joinpath("ledger.db").read_bytes()[68:72] == APPLICATION_ID.to_bytes(4, "big")


def test_parameters_of_a_request_come_back_equal(tmp_path, sample):
    params = SamplingParams(temperature=1 / 3, top_p=0.95, max_new_tokens=512).to_dict()
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        ledger.add_samples([sample(0, params=params, seconds=1 / 7)])
        found = next(ledger.samples())
    assert found.params == params and found.seconds == 1 / 7


def test_text_that_is_not_utf8_is_stored_readably(tmp_path, sample):
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        ledger.add_samples([sample(0, text="half a pair: \ud83d")])
        assert next(ledger.samples()).text == "half a pair: ?"


def test_a_key_is_stored_once_and_the_first_stays(tmp_path, sample):
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        assert ledger.add_samples([sample(0), sample(0, text="other"), sample(1)]) == 2
        assert ledger.add_samples([sample(0, text="third")]) == 0
        assert ledger.count() == 2 and ledger.get_samples(["key-0"])["key-0"] == sample(0)


def test_many_keys_and_pages(tmp_path, sample):
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        ledger.add_samples(sample(number, model_fingerprint=f"f{number % 2}") for number in range(1300))
        assert len(ledger.get_samples(f"key-{number}" for number in range(2000))) == 1300
        assert [found.key for found in ledger.samples("f1")] == [f"key-{number}" for number in range(1, 1300, 2)]
        assert ledger.count("f1") == 650 and ledger.count("unknown") == 0


def test_writing_while_reading(tmp_path, sample):
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        ledger.add_samples(sample(number) for number in range(600))
        for number, _ in enumerate(ledger.samples()):
            if number == 10:
                ledger.add_samples([sample(600)])
        assert number == 600


def test_a_failing_source_stores_nothing_of_its_batch(tmp_path, sample):
    def source():
        yield sample(1)
        raise KeyboardInterrupt

    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        ledger.add_samples([sample(0)])
        with pytest.raises(KeyboardInterrupt):
            ledger.add_samples(source())
        with pytest.raises(LedgerError, match=r"NOT NULL constraint failed: samples\.text"):
            ledger.add_samples([sample(2), sample(3, text=None)])
        assert [found.key for found in ledger.samples()] == ["key-0"]
        assert ledger.add_samples([sample(4)]) == 1


def test_the_latest_verifier_version_speaks_and_error_gives_way(tmp_path, verdict):
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        assert ledger.add_verdicts([verdict(0, "error"), verdict(1, "wrong", detail="5 is not 4")]) == 2
        assert ledger.add_verdicts([verdict(0), verdict(1)]) == 1  # error -> correct; wrong stays
        assert ledger.add_verdicts([verdict(0, "error")]) == 0
        assert ledger.get_verdicts(["key-1", "key-0", "key-9"]) == {
            "key-1": verdict(1, "wrong", detail="5 is not 4"),
            "key-0": verdict(0),
        }
        ledger.add_verdicts([verdict(1, version="2")])
        assert ledger.get_verdicts(["key-1"])["key-1"].version == "2" and ledger.count_verdicts() == 3


WRITER = """
import dataclasses, sys
from distill.records import Sample, Verdict
from distill.store.ledger import Ledger
path, total = sys.argv[1], int(sys.argv[2])
fields = dict(model="m", model_fingerprint="f", prompt_hash="h", seed=1, params={}, text="x" * 900, reasoning=None,
              answer="4", prompt_tokens=1, completion_tokens=1, finish_reason="stop", seconds=0.1,
              cost_usd=None, created_at="t")
with Ledger.open(path, create=True) as ledger:
    keys = [f"{batch}-{number}" for batch in range(total) for number in range(5)]
    known = ledger.get_samples(keys)
    for batch in range(total):
        names = [f"{batch}-{number}" for number in range(5)]
        missing = [name for name in names if name not in known]
        ledger.add_samples(Sample(key=name, problem_id=str(batch), index=number, **fields)
                           for number, name in enumerate(names) if name in missing)
        ledger.add_verdicts(Verdict(name, "exact", "1", "correct", 1.0, "4") for name in missing)
        print(batch, len(missing), flush=True)
print("done", flush=True)
"""


def test_kill_at_random_instants_loses_nothing_reported_and_doubles_nothing(tmp_path):
    path, total, chance = tmp_path / "ledger.db", 600, random.Random(5)
    reported: set[int] = set()
    drawn = kills = 0
    for _ in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(total)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            lines = [] if chance.random() < 0.2 else [writer.stdout.readline()]  # one in five dies at its start
            time.sleep(chance.random() * 0.1)
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.read().splitlines()
        kills += writer.returncode == -signal.SIGKILL
        whole = [line.split() for line in lines if len(line.split()) == 2]
        reported |= {int(batch) for batch, _ in whole}
        drawn += sum(int(number) for _, number in whole)
        if path.exists():
            with Ledger.open(path, create=True) as ledger:
                batches = Counter(found.problem_id for found in ledger.samples())
                assert {str(batch) for batch in reported} <= batches.keys()
                assert set(batches.values()) <= {5}, "a transaction came in part"
        if len(reported) == total:
            break
    assert kills >= 4
    subprocess.run([sys.executable, "-c", WRITER, str(path), str(total)], check=True, capture_output=True)
    with Ledger.open(path) as ledger:
        assert ledger.count() == 5 * total and drawn <= 5 * total


@pytest.mark.parametrize("kept_bytes", [0, 50, 100, 4096, 20_000])
def test_a_torn_file_is_refused(tmp_path, sample, kept_bytes):
    path = tmp_path / "ledger.db"
    with Ledger.open(path, create=True) as ledger:
        ledger.add_samples(sample(number) for number in range(300))
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(LedgerError, match=r"damaged or not a ledger|the file is empty") as caught:
        Ledger.open(path)
    assert caught.value.exit_code == EXIT_USAGE and str(path) in str(caught.value)


def test_damaged_pages_are_refused_at_open_and_by_check(tmp_path, sample, monkeypatch):
    path = tmp_path / "ledger.db"
    with Ledger.open(path, create=True) as ledger:
        ledger.add_samples(sample(number) for number in range(300))
    content = bytearray(path.read_bytes())
    content[4096 * 14 : 4096 * 18] = random.Random(0).randbytes(4096 * 4)
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="damaged or not a ledger"):
        Ledger.open(path)
    monkeypatch.setattr(ledger_module, "CHECKED_AT_OPEN_MIB", 0)  # as for a file too large to check at open
    with Ledger.open(path) as ledger, pytest.raises(LedgerError, match="damaged or not a ledger"):
        ledger.check()
    with Ledger.open(path) as ledger, pytest.raises(LedgerError, match="damaged or not a ledger"):
        list(ledger.samples())


def test_a_torn_log_keeps_the_whole_transactions(tmp_path, sample):
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    with Ledger.open(path, create=True) as ledger:
        for number in range(3):
            ledger.add_samples([sample(2 * number), sample(2 * number + 1)])
        shutil.copy(path, copy)
        log = Path(f"{path}-wal").read_bytes()
    Path(f"{copy}-wal").write_bytes(log[:-100])
    with Ledger.open(copy) as ledger:
        assert [found.key for found in ledger.samples()] == ["key-0", "key-1", "key-2", "key-3"]


def test_text_and_foreign_sqlite_files_are_refused_unchanged(tmp_path):
    text, foreign = tmp_path / "notes.db", tmp_path / "foreign.db"
    text.write_text("not a database at all\n" * 100)
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE samples (key TEXT)")
    connection.execute("PRAGMA application_id = 0x1234")
    connection.commit()
    connection.close()
    for path, message in ((text, "damaged or not a ledger"), (foreign, "of another program .application_id 0x1234")):
        before = path.read_bytes()
        for create in (True, False):
            with pytest.raises(LedgerError, match=message):
                Ledger.open(path, create=create)
        assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [foreign, text]


def test_another_version_is_refused_unchanged(tmp_path, sample):
    path = tmp_path / "ledger.db"
    with Ledger.open(path, create=True) as ledger:
        ledger.add_samples([sample(0)])
        ledger._connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="found version 99, this distill reads and writes version 2"):
        Ledger.open(path, create=True)
    assert path.read_bytes() == before


def test_missing_folder_and_empty_files(tmp_path):
    with pytest.raises(LedgerError, match=r"no such file. A harvest or an evaluation makes it"):
        Ledger.open(tmp_path / "ledger.db")
    with pytest.raises(LedgerError, match="found a folder"):
        Ledger.open(tmp_path, create=True)
    empty = tmp_path / "empty.db"
    empty.touch()  # what a kill while creating leaves
    with pytest.raises(LedgerError, match="the file is empty"):
        Ledger.open(empty)
    with Ledger.open(empty, create=True) as ledger:
        assert ledger.count() == 0


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "ledger.db", tmp_path / "file" / "run" / "ledger.db", Path("/proc/run/ledger.db")):
        with pytest.raises(LedgerError, match="Give an output folder that you can write to"):
            Ledger.open(path, create=True)


def test_a_read_only_disk(small_disk, sample):
    with Ledger.open(small_disk.path / "ledger.db", create=True) as ledger:
        ledger.add_samples([sample(0)])
    small_disk.remount("ro")
    for path in (small_disk.path / "ledger.db", small_disk.path / "new.db"):
        with pytest.raises(LedgerError, match=r"cannot be written|cannot be made") as caught:
            Ledger.open(path, create=True)
        assert caught.value.exit_code == EXIT_USAGE


def test_a_disk_that_is_really_full(small_disk, sample):
    path, stored = small_disk.path / "ledger.db", 0
    with Ledger.open(path, create=True) as ledger:
        with pytest.raises(InfrastructureError, match=r"the disk is full. Free space and run again") as caught:
            for stored in range(2000):
                ledger.add_samples([sample(stored, text="x" * 3000)])
        assert caught.value.exit_code == EXIT_INFRASTRUCTURE and stored > 20
        assert ledger.count() == stored
    with pytest.raises(InfrastructureError, match="the disk is full"):
        (small_disk.path / "rest").write_bytes(b"")
        with (small_disk.path / "rest").open("wb", buffering=0) as rest:
            while _write_some(rest):
                pass
        Ledger.open(small_disk.path / "second.db", create=True).close()
    small_disk.remount("size=16m")
    with Ledger.open(path) as ledger:
        assert [found.key for found in ledger.samples()] == [f"key-{number}" for number in range(stored)]
        assert ledger.add_samples([sample(stored)]) == 1


def _write_some(file) -> bool:
    try:
        return bool(file.write(b"0" * 512))
    except OSError:
        return False


def test_a_full_database_rolls_back_and_goes_on(tmp_path, sample):
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        ledger.add_samples([sample(0)])
        ledger._connection.execute("PRAGMA max_page_count = 20")
        with pytest.raises(InfrastructureError, match="nothing reported is lost"):
            ledger.add_samples(sample(number, text="x" * 4000) for number in range(1, 60))
        assert ledger.count() == 1
        ledger._connection.execute("PRAGMA max_page_count = 100000")
        assert ledger.add_samples(sample(number, text="x" * 4000) for number in range(60)) == 59


def test_a_ledger_held_by_another_process(tmp_path, sample, monkeypatch):
    monkeypatch.setattr(ledger_module, "BUSY_TIMEOUT_SECONDS", 0.1)
    with Ledger.open(tmp_path / "l.db", create=True) as one, Ledger.open(tmp_path / "l.db") as other:
        one._connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(InfrastructureError, match="another process has held it"):
            other.add_samples([sample(0)])
        one._connection.execute("ROLLBACK")
        other.add_samples([sample(0)])
        assert one.count() == 1  # both see what the other wrote


def test_columns_are_the_records_fields(tmp_path, sample, verdict):
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        for table, record in (("samples", sample(0)), ("verdicts", verdict(0))):
            columns = [column[1] for column in ledger._connection.execute(f"PRAGMA table_info({table})")]
            kept_apart = {"logprobs"}
            assert columns == ["row_id", *(f.name for f in dataclasses.fields(record) if f.name not in kept_apart)]


def test_a_ledger_of_version_1_is_brought_up_to_date_in_place(tmp_path, sample, verdict):
    path = tmp_path / "ledger.db"
    connection = sqlite3.connect(path)
    for statement in schema._VERSION_1:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    old = [field.name for field in dataclasses.fields(Sample) if field.name not in ("splices", "note", "logprobs")]
    values = [json.dumps(value) if isinstance(value, dict) else value for value in map(sample(0).to_dict().get, old)]
    names = ", ".join(f'"{name}"' for name in old)
    connection.execute(f"INSERT INTO samples ({names}) VALUES ({', '.join('?' * len(old))})", values)
    connection.commit()
    connection.close()
    with Ledger.open(path) as ledger:
        assert list(ledger.samples()) == [sample(0)]
        ledger.add_samples([sample(1, splices=(7,), note="loop")])
    with Ledger.open(path) as ledger:
        assert ledger.get_samples(["key-1"])["key-1"].splices == (7,)


def test_pieces_join_to_a_partial_trace_until_the_sample_is_there(tmp_path, sample):
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        ledger.add_pieces([TracePiece("key-0", "fresh", "lost ", "", 1), TracePiece("key-0", "fresh", "a ", "", 2)])
        ledger.add_pieces([TracePiece("key-0", "more", "b ", "", 3), TracePiece("key-1", "fresh", "", "", 0)])
        ledger.add_pieces([TracePiece("key-0", "spliced", "c", "answer", 4)])
        assert ledger.get_partials(["key-0", "key-1", "key-2"]) == {
            "key-0": PartialTrace("key-0", "a b c", "answer", 9, splices=(4,))
        }
        ledger.add_samples([sample(0)])
        assert ledger.get_partials(["key-0"]) == {}


def test_logprobs_are_kept_apart(tmp_path, sample):
    logprobs = ({"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1.25}]},)
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        ledger.add_samples([sample(0, logprobs=logprobs), sample(1)])
        assert ledger.get_samples(["key-0"])["key-0"].logprobs == ()
        assert ledger.get_logprobs(["key-0", "key-1"]) == {"key-0": logprobs}


def test_yields_are_of_a_scope_and_the_last_counts(tmp_path):
    first = ProblemYield("p", "enough", {"correct": 1}, {"stop": 1}, 12)
    last = ProblemYield("p", "all drawn", {"correct": 1, "wrong": 2}, {"stop": 2, "length": 1}, 40, 0.5)
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        assert ledger.add_yields("a", [first]) == ledger.add_yields("b", [first]) == 1
        ledger.add_yields("a", [last])
        assert ledger.get_yields("a", ["p", "q"]) == {"p": last} and ledger.get_yields("b", ["p"]) == {"p": first}
    assert (last.samples, last.accepted) == (3, 1)
