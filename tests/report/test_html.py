"""The report: every section from the files of a run, missing and damaged ones said plainly, nothing let through raw."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser

import pytest

from distill.errors import EXIT_USAGE, ConfigError, DistillError
from distill.evaluate.result import EvalResult
from distill.report.html import SECTIONS, write_report

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(directory) -> tuple[str, Page]:
    text = write_report(directory).read_text(encoding="utf-8")
    return text, Page(text)


def test_every_section_is_there_and_filled(run_directory):
    text, page = report(run_directory)
    for anchor, heading, _ in SECTIONS:
        assert f'<section id="{anchor}"><h2>{heading}</h2>' in text
    assert "missing" not in {value for name, value in page.attributes if name == "class"}
    assert (
        text.count("<svg ") == 11
    )  # pass@1, cons@k, two of curves, accept rate, funnel, pass rates, token lengths, drops, loss, stages
    assert (run_directory / "report.html").stat().st_size < 500_000


def test_figures_are_those_of_the_files(run_directory):
    _, page = report(run_directory)
    for role in ("base", "student", "teacher"):
        scores = EvalResult.load(run_directory / "eval" / f"{role}.json").tasks["tiny"].scores
        low, high = scores["pass@1_interval"]
        assert f"{role} {scores['pass@1']:.1%} {low:.1%} to {high:.1%} {scores['pass@k']:.1%}" in page.text
    run = json.loads((run_directory / "run.json").read_text())
    assert f"{run['harvest']['tokens_per_accepted_trace']:,.0f} teacher tokens per accepted trace" in page.text
    assert f"{run['training']['final_loss']:.3f} final loss" in page.text
    assert f"{run['curation']['kept']} traces kept, {run['curation']['dropped']} samples dropped" in page.text
    assert "1 training problems were removed because their normalised text is held out, 2 because" in page.text


def test_the_precision_of_an_fp8_run_is_shown(run_directory):
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from distill.fp8 import convert_to_fp8, get_recipe, receipt, shadow_probe

    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_key_value_heads=1, vocab_size=64)).train()
    convert_to_fp8(model, get_recipe("fast", skinny_below=0))
    ids = torch.arange(3, 43)[None]
    probe = shadow_probe(model, lambda: model(input_ids=ids, labels=ids, use_cache=False).loss, step=7)
    precision = {"receipt": receipt(model).to_dict(), "probes": [probe.to_dict()], "probes_off": ""}
    run = json.loads((run_directory / "run.json").read_text())
    run["training"]["precision"] = precision
    (run_directory / "run.json").write_text(json.dumps(run))
    text, page = report(run_directory)
    assert "Trained in FP8 (recipe fast on cpu): 7 of 7 linears of the decoder layers." in page.text
    assert f"{probe.relative_gap:+.2%} at step 7" in page.text
    assert "<td class=words>model.layers.0.mlp.down_proj</td><td class=words>emulation</td><td>0</td>" in text


def test_the_verdict_is_said_in_plain_words(run_directory):
    _, page = report(run_directory)
    verdict = json.loads((run_directory / "gate" / "verdict.json").read_text())
    assert verdict["outcome"] in page.text
    for row in verdict["comparisons"]:
        assert f"it solves {row['student']:.1%}, and {row['needed']:.1%} were needed" in page.text


@pytest.mark.parametrize(
    ("outcome", "lower", "upper", "words"),
    [
        ("PASS", 0.051, 0.2, "yes; it solves 90.0%, and 80.0% were needed. With 95% confidence it is 5.1 points above"),
        ("FAIL", -0.3, -0.02, "no; it solves 90.0%, and 80.0% were needed. With 95% confidence it is 2.0 points below"),
        ("INCONCLUSIVE", -0.01, 0.2, "anywhere from -1.0 to +20.0 points"),
    ],
)
def test_words_for_each_outcome(run_directory, outcome, lower, upper, words):
    path = run_directory / "gate" / "verdict.json"
    verdict = json.loads(path.read_text())
    changes = {"outcome": outcome, "lower_bound": lower, "upper_bound": upper, "student": 0.9, "needed": 0.8}
    verdict |= {"outcome": outcome, "comparisons": [verdict["comparisons"][0] | changes]}
    path.write_text(json.dumps(verdict))
    assert words in report(run_directory)[1].text


def test_an_invalid_run_says_why(run_directory):
    path = run_directory / "gate" / "verdict.json"
    verdict = json.loads(path.read_text()) | {
        "outcome": "INVALID",
        "comparisons": [],
        "reasons": ["cut off & <b>short"],
    }
    path.write_text(json.dumps(verdict))
    _, page = report(run_directory)
    assert page.text.count("cut off & <b>short") == 2 and "This run may not be judged." in page.text


def test_what_a_model_wrote_stays_text(run_directory, attack):
    text, page = report(run_directory)
    assert "<script" not in text and "script" not in page.tags
    assert attack in page.text


def test_hostile_names_and_characters_stay_text(run_directory):
    path = run_directory / "run.json"
    run = json.loads(path.read_text())
    run["recipe_name"] = "x'\"><script>alert(1)</script>"
    run["recipe"]["description"] = "bell \x07, half a pair \ud83d, <img src=x onerror=alert(1)>"
    run["harvest"]["families"] = {"</svg><script>1</script>": {"samples": 2, "accepted": 1, "tokens": 9}}
    path.write_text(json.dumps(run))
    text, page = report(run_directory)
    assert "<script" not in text and "<img" not in text and "\x07" not in text
    assert "half a pair ?, <img src=x onerror=alert(1)>" in page.text


def test_it_loads_nothing(run_directory):
    text, page = report(run_directory)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    links = [value for name, value in page.attributes if name in ("href", "src")]
    assert links and all(value.startswith("#") for value in links)
    assert "default-src 'none'" in text and "url(" not in text and "@import" not in text


def test_held_out_items_side_by_side(run_directory):
    _, page = report(run_directory)
    student = EvalResult.load(run_directory / "eval" / "student.json").tasks["tiny"]
    base = EvalResult.load(run_directory / "eval" / "base.json").tasks["tiny"]
    right = {item.problem_id for item in student.items if item.outcomes[0] == "correct"}
    poor = [item.problem_id for item in base.items if item.outcomes[0] != "correct"]
    first = next(name for name in poor if name in right)
    assert first in page.text
    wrong = [item.problem_id for item in student.items if item.outcomes[0] != "correct"]
    assert not wrong or wrong[0] in page.text
    assert "State the final answer to the following arithmetic problem" in page.text  # a prompt of task tiny
    assert "No reasoning." in page.text


def test_every_figure_has_its_command(run_directory):
    text, page = report(run_directory)
    for figure in text.split("<figure>")[1:]:
        assert '<code class="command">distill ' in figure.split("</figure>")[0]
    for verb in ("harvest", "curate", "train", "eval", "gate", "run"):
        assert f"distill {verb} tiny/quickstart --out '{run_directory}'" in page.text
    assert f"distill report '{run_directory}'" in page.text


@pytest.mark.parametrize(
    ("removed", "keys", "words"),
    [
        (["eval"], [], ["No model of this run has been evaluated yet.", "so there is nothing to compare"]),
        (["eval/base.json"], [], ["Not evaluated yet: base."]),
        (["dataset"], ["curation"], ["There is no dataset yet."]),
        ([], ["training"], ["The student has not been trained yet."]),
        (["gate"], ["gate"], ["Not judged yet.", "The gate has not judged this run yet."]),
        (["ledger.db"], [], ["is not in this directory's ledger"]),
        ([], ["harvest", "problems"], ["The teacher has not been sampled to the end yet.", "No problems have been"]),
        ([], ["recipe", "machine", "versions", "code", "stages"], ["No stage has run yet.", "run.json does not say"]),
    ],
)
def test_what_is_missing_is_said_with_the_command_that_makes_it(run_directory, removed, keys, words):
    for name in removed:
        path = run_directory / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    path = run_directory / "run.json"
    run = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in run.items() if key not in keys}))
    _, page = report(run_directory)
    for sentence in words:
        assert sentence in page.text


def test_a_run_that_has_only_begun(tmp_path):
    (tmp_path / "run.json").write_text('{"schema_version": 1, "harvest": {"teacher_fingerprint": "f"}}')
    _, page = report(tmp_path)
    assert page.text.count("To make it:") >= 8 and "distill train RECIPE --out" in page.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", "{", r"run.json: is not JSON"),
        ("run.json", '{"schema_version": 1, "harvest": [1]}', "harvest: expected a mapping, found list"),
        ("run.json", '{"schema_version": 1, "training": {"final_loss": 1}}', "section 'training' cannot be made"),
        ("run.json", '{"schema_version": 1, "stages": {"eval": 3}}', "section 'provenance' cannot be made"),
        ("eval/student.json", "{}", "format_version: expected 2, found None"),
        ("gate/verdict.json", "nonsense", "verdict.json: is not JSON"),
        ("gate/verdict.json", "{}", "not a gate's verdict; judge again"),
        ("dataset/drops.parquet", "nonsense", "damaged or no Parquet file"),
        ("ledger.db", "nonsense" * 99, "ledger"),
    ],
)
def test_damage_is_one_clear_error(run_directory, name, content, message):
    (run_directory / name).write_text(content)
    with pytest.raises(DistillError, match=message) as caught:
        write_report(run_directory)
    assert caught.value.exit_code == EXIT_USAGE and str(caught.value).isascii()
    assert not (run_directory / "report.html").exists()


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match=r"not a run directory, it has no run.json; `distill run RECIPE"):
        write_report(tmp_path)


def test_writing_twice_gives_the_same_bytes(run_directory):
    first = write_report(run_directory).read_bytes()
    assert write_report(run_directory).read_bytes() == first
