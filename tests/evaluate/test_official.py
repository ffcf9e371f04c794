"""lm-eval's own GSM8K and MATH-500 through an engine give what lm-eval's hf model gives, item by item.

The items are of the embedded pair's world; the student gets some of the greatest common divisors right.
pytest tests/evaluate/test_official.py
"""

import json
from pathlib import Path

import pytest

from distill import catalog
from distill.cards import ReasoningFormat
from distill.engines.local import LocalEngine
from distill.errors import CatalogError, ConfigError, TeacherError
from distill.evaluate.official import evaluate_official
from distill.problems import load_problems
from distill.records import SamplingParams
from distill.store.ledger import Ledger

GREEDY = SamplingParams(temperature=0.0, top_p=1.0, max_new_tokens=64)
THINKING = ReasoningFormat(open_marker="<think>", close_marker="</think>", opened_by_prompt=False)
PROBLEMS = load_problems(
    [{"gym": {"family": "gcd", "size": 16, "seed": 4, "config": {"min_value": 10, "max_value": 99}}}]
)
ROWS = {
    "gsm8k": [{"question": p.prompt, "answer": f"By division.\n#### {p.answer}"} for p in PROBLEMS],
    # The student answers in a box, and MATH's scorer compares whole texts: the gold it reads here is \boxed{N}.
    "hendrycks_math500": [{"problem": p.prompt, "solution": rf"It is \boxed \boxed{{{p.answer}}}"} for p in PROBLEMS],
}
OFFICIAL_FILES = {"gsm8k": "gsm8k/gsm8k.yaml", "hendrycks_math500": "hendrycks_math/hendrycks_math500.yaml"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, dict[str, Path]]:
    folder = tmp_path_factory.mktemp("official")
    files: dict[str, dict[str, Path]] = {task: {} for task in ROWS}
    for task, rows in ROWS.items():
        for split, part in (("test", rows[:12]), ("train", rows[12:])):
            files[task][split] = folder / f"{task}-{split}.jsonl"
            files[task][split].write_text("".join(json.dumps(row) + "\n" for row in part))
    return files


@pytest.fixture(scope="module")
def engines():
    return {
        kind: LocalEngine.open(catalog.find(kind, "tiny").parent, name=kind, reasoning=THINKING, dtype="float32")
        for kind in ("students", "teachers")
    }


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.db", create=True) as ledger:
        yield ledger


def by_lm_eval(engine, task, files, *, num_fewshot, limit=None, until=None, **model_options):
    """lm-eval alone: its task file with other data, its hf model over the same weights, its `simple_evaluate`."""
    import lm_eval.tasks
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks._yaml_loader import load_yaml

    folder = Path(lm_eval.tasks.__file__).parent
    paths = {split: str(path) for split, path in files.items()}
    spec = {
        **load_yaml(folder / OFFICIAL_FILES[task]),
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": paths},
    }
    model = HFLM(
        pretrained=engine._network, tokenizer=engine._tokenizer, batch_size=1, max_length=1024, **model_options
    )
    settings = {"max_gen_toks": GREEDY.max_new_tokens, **({"until": until} if until else {})}
    return simple_evaluate(
        model,
        tasks=[spec],
        limit=limit,
        num_fewshot=num_fewshot,
        apply_chat_template=True,
        fewshot_as_multiturn=False,
        gen_kwargs=settings,
        task_manager=lm_eval.tasks.TaskManager(include_defaults=False),
    )


def figures(results, task):
    return {key: value for key, value in results[task].items() if key.startswith("exact_match,")}


@pytest.mark.parametrize(
    ("task", "num_fewshot", "filters"),
    [("gsm8k", 0, 2), ("gsm8k", 3, 2), ("hendrycks_math500", 0, 1), ("hendrycks_math500", 2, 1)],
)
def test_scores_and_completions_are_those_of_lm_evals_hf_model(engines, ledger, data, task, num_fewshot, filters):
    engine = engines["students"]
    ours = evaluate_official(
        [f"lm-eval/{task}"], engine, ledger, GREEDY, run_seed=0, num_fewshot=num_fewshot, data={task: data[task]}
    )
    theirs = by_lm_eval(engine, task, data[task], num_fewshot=num_fewshot)
    assert figures(ours.scores, task) == figures(theirs["results"], task)
    mine, other = ours.lm_eval["samples"][task], theirs["samples"][task]
    assert len(mine) == len(other) == 12 * filters
    for field in ("doc", "filter", "target", "filtered_resps", "exact_match", "prompt_hash"):
        assert [record[field] for record in mine] == [record[field] for record in other], field
    assert [str(record["resps"][0][0]) for record in mine] == [record["resps"][0][0] for record in other]
    assert mine[0]["arguments"][0][0].count("Answer:") == num_fewshot + 1
    if num_fewshot == 0:
        assert 0 < max(figures(ours.scores, task).values()) < 1


def test_stop_strings_cut_as_they_cut_there(engines, ledger, data):
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    from distill.evaluate import official
    from distill.evaluate.lm import EngineLM

    engine, until = engines["students"], ["Question:", "oxed"]
    spec = official._spec("gsm8k", official._file_of("gsm8k", GREEDY), data["gsm8k"], 0)
    loaded = TaskManager(include_defaults=False).load(
        [{**spec, "generation_kwargs": {"until": until}, "num_fewshot": 0}]
    )
    ours = evaluate(EngineLM(engine, ledger, GREEDY, run_seed=0), loaded, apply_chat_template=True)
    theirs = by_lm_eval(engine, "gsm8k", data["gsm8k"], num_fewshot=0, until=until)
    texts = [str(record["resps"][0][0]) for record in ours["samples"]["gsm8k"]]
    assert texts == [record["resps"][0][0] for record in theirs["samples"]["gsm8k"]]
    assert set(texts) == {"\\b"}


def test_closed_thoughts_are_stripped_as_there_and_open_ones_are_no_answer(engines, ledger, data):
    engine = engines["teachers"]
    ours = evaluate_official(
        ["gsm8k"], engine, ledger, GREEDY, run_seed=0, num_fewshot=0, data={"gsm8k": data["gsm8k"]}, limit=8
    )
    theirs = by_lm_eval(engine, "gsm8k", data["gsm8k"], num_fewshot=0, limit=8, think_end_token="</think>")
    closed = open_ = 0
    records = zip(ours.lm_eval["samples"]["gsm8k"], theirs["samples"]["gsm8k"], strict=True)
    for mine, other in records:
        completion = mine["resps"][0][0]
        if completion.sample.text.count("</think>") == 1:
            closed += 1
            assert str(completion) == other["resps"][0][0]
        if "</think>" not in completion.sample.text:
            open_ += 1
            assert str(completion) == "" and other["resps"][0][0] == completion.sample.text
    assert closed and open_
    assert ours.tokens["gsm8k"]["unclosed_rate"] == open_ / 2 / 8  # a record a filter


def test_tokens_are_counted_and_a_second_run_draws_nothing(scripted_engine, ledger, data):
    texts = ["<think>a b</think>#### 1\nQuestion: more", "<think>on and...", "#### 1"]
    numbers = {row["question"]: place for place, row in enumerate(ROWS["gsm8k"])}

    def script(message, index):
        (place,) = [place for question, place in numbers.items() if question in message]
        return texts[place % 3]

    def run(**more):
        files = {"gsm8k": data["gsm8k"]["test"]}
        return evaluate_official(
            ["gsm8k"], scripted_engine(script, **more), ledger, GREEDY, run_seed=1, num_fewshot=0, data=files, limit=6
        )

    first, second = run(), run()
    assert (first.samples_drawn, first.samples_reused, second.samples_drawn, second.samples_reused) == (6, 0, 0, 6)
    assert first.scores == second.scores and first.tokens == second.tokens
    figures = first.tokens["gsm8k"]
    assert (figures["requests"], figures["answered"], figures["completion_tokens"]) == (6, 6, 2 * (5 + 2 + 2))
    assert (figures["stopped_rate"], figures["unclosed_rate"], figures["cut_off_rate"]) == pytest.approx((1 / 3,) * 3)
    lost = run(fingerprint="other", lose=2).tokens["gsm8k"]
    assert (lost["requests"], lost["answered"]) == (6, 4)
    assert json.loads(json.dumps(first.to_dict()))["scores"]["gsm8k"] == first.scores["gsm8k"]


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ([], {}, "the list is empty"),
        (["gsm8k"], {"limit": 0}, "limit: expected at least 1"),
        (["gsm8k"], {"data": {"gsm9k": "x"}}, "'gsm9k' is not evaluated here"),
        (["gsm8k"], {"data": {"gsm8k": "gone.jsonl"}}, "no file for split train .its prompts show 5 examples"),
        (["gsm8k"], {"data": {"gsm8k": "gone.jsonl"}, "num_fewshot": 0}, r"gone\.jsonl is not a file"),
        (["arc_easy"], {}, "found multiple_choice, which needs log-likelihoods"),
        (["humaneval"], {}, "without a sandbox; use this toolkit's task humaneval"),
    ],
)
def test_what_would_silently_be_wrong_is_refused(scripted_engine, ledger, names, options, message):
    engine = scripted_engine(lambda prompt, index: "never")
    with pytest.raises(ConfigError, match=message):
        evaluate_official(names, engine, ledger, GREEDY, run_seed=0, **options)
    assert engine.requests == []


def test_columns_that_are_not_the_tasks_are_one_error(scripted_engine, ledger, jsonl):
    files = {"hendrycks_math500": jsonl("own.jsonl", [{"problem": "1 + 1?", "answer": "2"}])}
    with pytest.raises(ConfigError, match="lm-eval cannot load them: KeyError: 'solution'"):
        evaluate_official(["hendrycks_math500"], scripted_engine(lambda *_: ""), ledger, GREEDY, run_seed=0, data=files)


def test_a_prompt_that_does_not_fit_is_refused_and_not_cut(engines, ledger, data):
    """lm-eval's hf model would cut the prompt's beginning off and score on."""
    params = SamplingParams(temperature=0.0, top_p=1.0, max_new_tokens=1020)
    with pytest.raises(TeacherError, match="context is 1024"):
        evaluate_official(
            ["gsm8k"], engines["students"], ledger, params, run_seed=0, num_fewshot=0, data={"gsm8k": data["gsm8k"]}
        )


@pytest.mark.slow
def test_names_are_looked_up_in_lm_evals_whole_index(scripted_engine, ledger):
    engine = scripted_engine(lambda prompt, index: "never")
    with pytest.raises(CatalogError, match="did you mean 'gsm8k_cot'"):
        evaluate_official(["gsm8k_cott"], engine, ledger, GREEDY, run_seed=0)
