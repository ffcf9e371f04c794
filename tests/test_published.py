"""pytest tests/test_published.py"""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.cards import Baseline, load_baseline
from distill.errors import ConfigError
from distill.published import check_baseline, published_values, reruns_note, settings_note

TODAY = date(2026, 11, 24)
SOURCE = {"url": "https://example.org/paper", "table": "Paper, Table 3", "retrieved": date(2026, 1, 2)}
ELSEWHERE = {"url": "https://example.org/blog", "table": "Blog, text", "retrieved": date(2026, 1, 2)}
AIME: dict[str, Any] = {
    "task": "aime24",
    "metric": "pass@1",
    "value": 63.6,
    "harness": "own",
    "source": SOURCE,
    "conflicts_with": [{"value": 70.0, "source": ELSEWHERE}],
    "reruns": [{"value": 61.25, "k": 64, "harness": "lighteval", "source": ELSEWHERE}],
}
RATING = {"task": "codeforces", "metric": "rating", "value": 1820.0, "harness": "own", "source": SOURCE}
STATED = {"k": 64, "temperature": 0.6, "top_p": 0.95, "max_tokens": 32768}


def baseline(*results: dict[str, Any], **fields: Any) -> Baseline:
    made = {"kind": "baseline", "name": "rival", "title": "R", "model": "m", "results": list(results), **fields}
    found: Baseline = Baseline.from_data(made, Path("rival.yaml"))
    return found


def test_the_value_and_its_conflicts_come_most_trusted_first_as_fractions():
    found = published_values(baseline(RATING, AIME), "aime24", "pass@1")
    assert [value.value for value in found] == [pytest.approx(0.636), pytest.approx(0.7)]
    assert [value.label for value in found] == ["63.6 (Paper, Table 3)", "70.0 (Blog, text)"]
    assert found[1].source.url == "https://example.org/blog"


def test_a_rating_stays_as_printed():
    (found,) = published_values(baseline(RATING), "codeforces", "rating")
    assert (found.value, found.label) == (1820.0, "1820 (Paper, Table 3)")


def test_what_is_not_published_is_empty():
    assert published_values(baseline(AIME), "aime24", "cons@64") == []
    assert published_values(baseline(AIME), "math500", "pass@1") == []


def test_reruns_are_shown_and_are_no_bar():
    made = baseline(AIME)
    assert 0.6125 not in [value.value for value in published_values(made, "aime24", "pass@1")]
    assert reruns_note(made.results[0]) == "measured elsewhere: 61.25 (lighteval, k = 64)"
    assert reruns_note(baseline(RATING).results[0]) == ""


@pytest.mark.parametrize(
    ("stated", "params", "k", "note"),
    [
        (STATED, {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 32768}, 64, ""),
        (
            STATED,
            {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 4096},
            64,
            "aime24 pass@1: published at 32,768 tokens, this run at 4,096 tokens.",
        ),
        (
            {**STATED, "top_p": None},
            {"temperature": 1.0, "top_p": 0.95, "max_new_tokens": 32768},
            16,
            "aime24 pass@1: published at temperature 0.6, k = 64, this run at temperature 1, k = 16; "
            "the source does not state top-p.",
        ),
        (
            {},
            {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 4096},
            1,
            "aime24 pass@1: the source does not state temperature, top-p, tokens or k.",
        ),
    ],
)
def test_settings_that_differ_are_named_with_both_numbers(stated, params, k, note):
    assert settings_note(baseline({**AIME, **stated}).results[0], params, k) == note


def test_o1_mini_on_gsm8k_can_be_compared_with():
    found = published_values(load_baseline("o1-mini"), "gsm8k", "pass@1")
    assert [value.value for value in found] == [pytest.approx(0.951), pytest.approx(0.9606)]
    assert "GSM-Symbolic" in found[0].label


def test_a_sound_baseline_has_no_fault_and_may_name_tasks_that_cannot_be_run_here():
    check_baseline(baseline(AIME, RATING, {**AIME, "metric": "cons@64"}), tasks=["aime24"], today=TODAY)
    check_baseline(baseline({**AIME, "standard_error": 0.75}), today=TODAY)
    check_baseline(baseline({**RATING, "standard_error": 60.0}), today=TODAY)
    check_baseline(baseline(AIME, {**RATING, "metric": "pass@1", "value": 0.4}), today=TODAY)


CONFLICT = AIME["conflicts_with"][0]
RERUN = AIME["reruns"][0]
NO_LINK = {**SOURCE, "url": "paper.pdf"}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([{**AIME, "value": 636.0}], "results.0 (aime24 pass@1): value: expected 0 to 100 (per cent), found 636."),
        ([{**AIME, "value": -1.0}], "expected 0 to 100 (per cent), found -1."),
        ([{**RATING, "value": 18200.0}], "(codeforces rating): value: expected 0 to 5000 (rating), found 18200."),
        ([{**AIME, "conflicts_with": [{**CONFLICT, "value": 700.0}]}], "conflicts_with.0.value: expected 0 to 100"),
        ([{**AIME, "reruns": [{**RERUN, "value": 700.0}]}], "reruns.0.value: expected 0 to 100"),
        ([{**AIME, "conflicts_with": [{**CONFLICT, "value": 63.6}]}], "63.6 stands above already and conflicts with"),
        ([{**AIME, "conflicts_with": [CONFLICT, CONFLICT]}], "conflicts_with.1.value: 70 stands above already"),
        ([AIME, RATING, AIME], "results.2 (aime24 pass@1): the same task and metric twice; name the other number"),
        ([{**AIME, "standard_error": 0.0}], "standard_error: found 0; a measured score has an error. Write unknown"),
        ([{**AIME, "standard_error": 75.0}], "expected at most 48.1, that of a single answer, found 75."),
        ([{**AIME, "source": NO_LINK}], "source.url: expected https://..., found 'paper.pdf'."),
        ([{**AIME, "source": {**SOURCE, "url": "http://example.org"}}], "found 'http://example.org'."),
        ([{**AIME, "reruns": [{**RERUN, "source": NO_LINK}]}], "reruns.0.source.url: expected https://"),
        ([{**AIME, "source": {**SOURCE, "table": " "}}], "source.table: name the table, figure or line"),
        ([{**AIME, "source": {**SOURCE, "retrieved": date(2026, 11, 25)}}], "2026-11-25 lies in the future."),
        (
            [{**AIME, "conflicts_with": [{**CONFLICT, "source": {**SOURCE, "retrieved": date(2999, 1, 1)}}]}],
            "conflicts_with.0.source.retrieved: 2999-01-01 lies in the future.",
        ),
        ([{**AIME, "task": "AIME-24"}], "task: found 'AIME-24', the task is called 'aime24'; write that."),
        ([{**AIME, "task": "gpqa diamond"}], "task: expected lower-case words joined by '_', found 'gpqa diamond'."),
        (
            [{**AIME, "value": 0.636, "conflicts_with": [], "reruns": []}],
            "rival.yaml: every value is at most 1; values are per cent: 63.6, not 0.636.",
        ),
    ],
)
def test_each_fault_of_a_baseline_is_found(results, message):
    with pytest.raises(ConfigError) as caught:
        check_baseline(baseline(*results), tasks=["aime24", "math500"], today=TODAY)
    assert str(caught.value).startswith("rival.yaml: ")
    assert message in str(caught.value)


def test_an_expired_baseline_is_a_fault_from_the_day_after():
    made = baseline(AIME, expires=TODAY)
    check_baseline(made, today=TODAY)
    with pytest.raises(ConfigError, match="expired on 2026-11-24; look its numbers up again"):
        check_baseline(made, today=date(2026, 11, 25))


def test_a_result_without_a_source_or_with_an_unknown_field_is_refused(tmp_path):
    path = tmp_path / "rival.yaml"
    for changes, message in (({"source": None}, "source"), ({"vlaue": 1.0}, "did you mean 'value'")):
        data = {"kind": "baseline", "name": "rival", "title": "R", "model": "m", "results": [{**AIME, **changes}]}
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            load_baseline(path)
