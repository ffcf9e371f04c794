"""Problems from reasoning-gym, JSONL files and `datasets`, and the check that training and evaluation share none.

    load_problems([{"gym": {"family": "gcd", "size": 100, "seed": 1}},
                   {"jsonl": {"path": "p.jsonl", "prompt": "question", "answer": "answer", "domain": "math",
                              "licence": "MIT", "verifier": "math"}}], base_dir=Path("."))
    kept, removed = remove_overlap(train, held_out)

A problem's id is made from its content unless the source has an id column, so the same problem has the same id in
every run and recipe. Not covered: paraphrases and near copies (word n-grams: `distill/curate/steps/decontaminate.py`).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.choices import gold_letter, read_choices, shuffled_choices, with_choices
from distill.errors import InfrastructureError, ProblemError, did_you_mean
from distill.recipes import Recipe
from distill.records import Problem, stable_hash
from distill.testcases import read_tests

GYM_LICENCE = "Apache-2.0"  # reasoning-gym's own; its generated questions carry no other
VERIFIERS_OF_ROWS = ("math", "exact", "code", "choice", "majority")

COLUMNS = ("prompt", "answer", "tests", "entry_point", "setup", "choices", "id")
COLUMNS_OF_VERIFIER: dict[str, tuple[str, ...]] = {"code": ("tests",), "majority": ()}
"""What a row must have besides its prompt; others need an answer."""

Row = Mapping[str, Any]


def load_problems(sources: Iterable[Any], *, base_dir: Path | str = ".", deduplicate: bool = True) -> list[Problem]:
    """All problems of all sources, in order; relative paths are read from `base_dir`.

    With `deduplicate`, a question whose normalised text came before is left out; without, it is kept under an id of its
    own. Raises: ProblemError if a source is malformed or the result is empty; InfrastructureError if the hub is away.
    """
    problems: list[Problem] = []
    for number, source in enumerate(sources):
        kind, spec = _kind_and_spec(source, where=f"problem source {number}")
        loaded = _LOADERS[kind](spec, Path(base_dir))
        if not loaded:
            named = spec.get("path") or spec.get("name") or spec.get("family")
            raise ProblemError(
                f"problem source {number} ({kind} {named}): no problems in it; expected at least one. "
                "Mend the file, its limit or size, or take the source out of problems.train."
            )
        problems.extend(loaded)
    if not problems:
        raise ProblemError("problems: the list of sources is empty; add a gym, jsonl or dataset source.")
    return distinct(problems) if deduplicate else _with_unique_ids(problems)


def question(problem: Problem) -> str:
    """What the problem asks, without the source's instruction: the text that overlap is judged by."""
    return str(problem.meta.get("question", problem.prompt))


def normalise(text: str) -> str:
    """Text as overlap is judged: Unicode NFKC, lower case, runs of white space as one blank, edges trimmed."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()


def remove_overlap(train: Sequence[Problem], held_out: Iterable[Problem]) -> tuple[list[Problem], list[Problem]]:
    """(training problems that are not held out, those removed because their normalised text is)."""
    taken = {normalise(question(problem)) for problem in held_out}
    kept: list[Problem] = []
    removed: list[Problem] = []
    for problem in train:
        (removed if normalise(question(problem)) in taken else kept).append(problem)
    return kept, removed


def training_problems(recipe: Recipe, held_out: Sequence[Problem], name: str) -> tuple[list[Problem], int, int]:
    """(problems to harvest, how many were removed as held out, how many as duplicates).

    Raises: ProblemError where none is left, or a source is malformed.
    """
    loaded = load_problems(recipe.problems.sources(), base_dir=recipe.base_dir, deduplicate=False)
    unique = distinct(loaded) if recipe.problems.deduplicate else loaded
    kept, overlapping = remove_overlap(unique, held_out)
    if not kept:
        raise ProblemError(f"{name}: every training problem is also held out; use other seeds or sources.")
    return kept, len(overlapping), len(loaded) - len(unique)


# --- sources ---------------------------------------------------------------------------------------------------------


def _load_gym(spec: dict[str, Any], base_dir: Path) -> list[Problem]:
    where = "gym source"
    _check_keys(spec, where, required=("family", "size", "seed"), optional=("config", "instruction"))
    family, config = spec["family"], dict(spec.get("config") or {})
    size, seed = _whole(spec, "size", where, minimum=1), _whole(spec, "seed", where, minimum=0)
    entries = _gym_entries(family, {**config, "size": size, "seed": seed})
    problems = []
    for entry in entries:
        prompt, extra = _with_instruction(entry["question"], spec)
        problems.append(
            Problem(
                id=f"{family}-{stable_hash(family, config, prompt, entry['answer'], length=16)}",
                prompt=prompt,
                answer=entry["answer"],
                verifier="gym",
                family=family,
                domain="reasoning-gym",
                source=f"reasoning-gym:{family}:seed={seed}",
                licence=GYM_LICENCE,
                meta={"family": family, "config": config, "entry": entry, **extra},
            )
        )
    return problems


def _gym_entries(family: str, settings: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        from reasoning_gym.factory import DATASETS, create_dataset
    except ImportError as error:
        raise ProblemError(
            f"gym source: cannot import reasoning-gym ({error}); `pip install reasoning-gym`."
        ) from error
    if family not in DATASETS:
        near = did_you_mean(str(family), DATASETS)
        raise ProblemError(f"gym source: family '{family}' is not one of reasoning-gym's{near}.")
    known = DATASETS[family][1].__dataclass_fields__
    for key in settings:
        if key not in known:
            raise _unknown(f"gym source {family}: config", key, known)
    try:
        dataset = create_dataset(family, **settings)
        entries = list(dataset)
    except Exception as error:  # reasoning-gym checks its configs with assert and raises what it likes
        raise ProblemError(f"gym source {family}: reasoning-gym refused {settings}: {error!r}.") from error
    if _accepts_nonsense(dataset.score_answer, entries[0]):
        raise ProblemError(f"gym source {family}: its scorer gives full credit to any text; choose another family.")
    return [to_json_clean(entry) for entry in entries]


def _accepts_nonsense(scorer: Callable[[str, dict[str, Any]], float], entry: dict[str, Any]) -> bool:
    """Whether a scorer cannot tell an answer (game_of_life_halting of reasoning-gym 0.1.25: `bool(text)`)."""
    try:
        return any(scorer(text, entry) >= 0.99 for text in ("zz 1", "no such answer"))
    except Exception:  # a scorer that breaks on nonsense does not accept it
        return False


def _load_jsonl(spec: dict[str, Any], base_dir: Path) -> list[Problem]:
    where = "jsonl source"
    _check_keys(
        spec,
        where,
        required=("path", "prompt", "domain", "licence", "verifier"),
        optional=(*COLUMNS[1:], "family", "limit", "instruction", "answer_after"),
    )
    path = base_dir / spec["path"]
    columns = {name: spec[name] for name in COLUMNS if spec.get(name)}
    return _from_rows(_jsonl_rows(path), spec, columns, where=str(path), name=path.stem)


def _jsonl_rows(path: Path) -> Iterator[Row]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemError(f"jsonl source: cannot read {path}: {error}.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ProblemError(f"{path}:{number}: not JSON ({error.msg}); expected one object a line.") from error
        if not isinstance(row, dict):
            raise ProblemError(f"{path}:{number}: found {type(row).__name__}; expected one JSON object a line.")
        yield row


def _load_dataset(spec: dict[str, Any], base_dir: Path) -> list[Problem]:
    where = "dataset source"
    _check_keys(
        spec,
        where,
        required=("name", "columns", "domain", "licence", "verifier"),
        optional=("config", "split", "revision", "data_files", "family", "limit", "instruction", "answer_after"),
    )
    columns = dict(spec["columns"])
    _check_keys(columns, f"{where}: columns", required=("prompt",), optional=COLUMNS)
    name = str(spec["name"])
    rows = _dataset_rows(name, spec, base_dir)
    return _from_rows(rows, spec, columns, where=f"dataset {name}", name=Path(name).name)


def _dataset_rows(name: str, spec: dict[str, Any], base_dir: Path) -> Iterable[Row]:
    import datasets

    split, folder = spec.get("split") or "train", base_dir / name
    try:
        if (folder / "state.json").exists() or (folder / "dataset_dict.json").exists():
            loaded: Any = datasets.load_from_disk(str(folder))
            if isinstance(loaded, datasets.DatasetDict):
                if split not in loaded:
                    raise _unknown(f"dataset {name}: split", split, loaded)
                loaded = loaded[split]
            return loaded
        return datasets.load_dataset(
            str(folder) if folder.is_dir() else name,
            spec.get("config"),
            split=split,
            revision=spec.get("revision"),
            data_files=_absolute(spec.get("data_files"), base_dir),
        )
    except ProblemError:
        raise
    except (ConnectionError, TimeoutError) as error:
        message = f"dataset {name}: the hub cannot be reached ({error}); fetch it first or use a jsonl source."
        raise InfrastructureError(message) from error
    except Exception as error:  # datasets raises many kinds: missing name, builder, split, file
        raise ProblemError(f"dataset {name}: cannot load split '{split}': {error}") from error


def _absolute(data_files: Any, base_dir: Path) -> Any:
    if data_files is None:
        return None
    if isinstance(data_files, Mapping):
        return {key: _absolute(value, base_dir) for key, value in data_files.items()}
    if isinstance(data_files, str):
        return data_files if "://" in data_files else str(base_dir / data_files)
    return [_absolute(value, base_dir) for value in data_files]


def _from_rows(
    rows: Iterable[Row], spec: dict[str, Any], columns: dict[str, Any], *, where: str, name: str
) -> list[Problem]:
    if spec["verifier"] not in VERIFIERS_OF_ROWS:
        raise _unknown(f"{where}: verifier", spec["verifier"], VERIFIERS_OF_ROWS)
    needed = COLUMNS_OF_VERIFIER.get(spec["verifier"], ("answer",))
    if missing := [name for name in needed if not columns.get(name)]:
        raise ProblemError(f"{where}: missing {', '.join(missing)}, which verifier {spec['verifier']} needs.")
    columns = {name: column for name, column in columns.items() if column}
    if spec["verifier"] == "majority" and "answer" in columns:
        raise ProblemError(
            f"{where}: answer: verifier majority has no gold answer; leave it out, or use math or exact."
        )
    limit = _whole(spec, "limit", where, minimum=1) if spec.get("limit") is not None else None
    problems: list[Problem] = []
    for number, row in enumerate(rows):
        if limit is not None and number >= limit:
            break
        problems.append(_from_row(row, spec, columns, where=f"{where}: row {number}", name=name))
    return problems


def _from_row(row: Row, spec: dict[str, Any], columns: dict[str, Any], *, where: str, name: str) -> Problem:
    for column in names_in(columns.values()):
        if column not in row:
            raise _unknown(f"{where}: column", column, row)
    asked = row[columns["prompt"]]
    if not isinstance(asked, str) or not asked.strip():
        raise ProblemError(f"{where}: column '{columns['prompt']}': expected text, found {asked!r}.")
    gold = _gold(row[columns["answer"]], spec, columns["answer"], where) if "answer" in columns else None
    asked, gold, meta = _means(asked, gold, row, spec, columns, where)
    prompt, extra = _with_instruction(asked, spec)
    content = f"{name}-{stable_hash(name, prompt, str(gold), *([meta] if meta else []), length=16)}"
    return Problem(
        id=str(row[columns["id"]]) if "id" in columns else content,
        prompt=prompt,
        answer=None if gold is None else str(gold),
        verifier=spec["verifier"],
        family=spec.get("family") or name,
        domain=spec["domain"],
        source=f"{name}@{spec['revision']}" if spec.get("revision") else name,
        licence=spec["licence"],
        meta={**extra, **meta},
    )


def names_in(columns: Iterable[Any]) -> list[str]:
    """The names of columns; `choices` may be a list of them, the wrong options each in a column of its own."""
    return [name for column in columns for name in (column if isinstance(column, list) else [column])]


def _gold(gold: Any, spec: Row, column: str, where: str) -> Any:
    if isinstance(gold, bool) or not isinstance(gold, (str, int, float)) or not str(gold).strip():
        raise ProblemError(f"{where}: column '{column}': expected text or a number, found {gold!r}.")
    if (marker := spec.get("answer_after")) is not None:
        _, found, gold = str(gold).rpartition(marker)
        gold = gold.strip()
        if not found or not gold:
            raise ProblemError(f"{where}: column '{column}': nothing follows answer_after '{marker}' in it.")
    return gold


def _means(
    asked: str, gold: Any, row: Row, spec: Row, columns: Mapping[str, Any], where: str
) -> tuple[str, Any, dict[str, Any]]:
    """(question, gold, meta) of verifiers that need more than an answer: a program's tests, a question's options."""
    if spec["verifier"] == "code":
        function = row[columns["entry_point"]] if "entry_point" in columns else None
        setup = row[columns["setup"]] if "setup" in columns else None
        tests = read_tests(to_json_clean(row[columns["tests"]]), function=function, setup=setup, where=where)
        return asked, gold, {"tests": tests}
    if spec["verifier"] == "choice" and isinstance(columns.get("choices"), list):
        key = str(row[columns["id"]]) if "id" in columns else asked
        options, letter = shuffled_choices(gold, [row[name] for name in columns["choices"]], key=key, where=where)
        return with_choices(asked, options, always=True), letter, {"choices": options}
    if spec["verifier"] == "choice":
        choices = read_choices(row[columns["choices"]], where=where) if "choices" in columns else None
        letter = gold_letter(gold, choices, where=where)
        return (with_choices(asked, choices[0]), letter, {"choices": choices[0]}) if choices else (asked, letter, {})
    if spec["verifier"] == "majority":
        return asked, None, {"equivalence": "math"}
    return asked, gold, {}


_LOADERS: dict[str, Callable[[dict[str, Any], Path], list[Problem]]] = {
    "gym": _load_gym,
    "jsonl": _load_jsonl,
    "dataset": _load_dataset,
}


# --- parts of a source -----------------------------------------------------------------------------------------------


def to_json_clean(value: Any) -> Any:
    """`value` so that JSON keeps it: tuples, sets and maps with other keys than text are tagged, see `from_json_clean`.

    numpy scalars and arrays become plain values; anything else that JSON has no word for becomes its text.
    """
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: to_json_clean(item) for key, item in value.items()}
        return {"__map__": [[to_json_clean(key), to_json_clean(item)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"__tuple__": [to_json_clean(item) for item in value]}
    if isinstance(value, list):
        return [to_json_clean(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return {"__set__": sorted((to_json_clean(item) for item in value), key=repr)}
    if value is None or type(value) in (bool, str, int, float):
        return value
    if callable(getattr(value, "tolist", None)):
        return to_json_clean(value.tolist())
    return str(value)


def from_json_clean(value: Any) -> Any:
    """What `to_json_clean` was given: some of reasoning-gym's scorers compare tuples or look up whole-number keys."""
    if isinstance(value, list):
        return [from_json_clean(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"__map__"}:
        return {from_json_clean(key): from_json_clean(item) for key, item in value["__map__"]}
    if value.keys() == {"__tuple__"}:
        return tuple(from_json_clean(item) for item in value["__tuple__"])
    if value.keys() == {"__set__"}:
        return {from_json_clean(item) for item in value["__set__"]}
    return {key: from_json_clean(item) for key, item in value.items()}


def _with_instruction(asked: str, spec: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(prompt, meta): the instruction follows the question after a blank line; the bare question is kept beside it."""
    instruction = spec.get("instruction")
    return (f"{asked.rstrip()}\n\n{instruction}", {"question": asked}) if instruction else (asked, {})


def _kind_and_spec(source: Any, *, where: str) -> tuple[str, dict[str, Any]]:
    dump = getattr(source, "model_dump", None)
    entries = dump(exclude_none=True) if dump else source
    if not isinstance(entries, Mapping) or len(entries) != 1:
        found = list(entries) if isinstance(entries, Mapping) else entries
        raise ProblemError(f"{where}: expected exactly one of {', '.join(_LOADERS)}, found {found!r}.")
    kind, spec = next(iter(entries.items()))
    if kind not in _LOADERS:
        raise _unknown(f"{where}: kind", kind, _LOADERS)
    if not isinstance(spec, Mapping):
        raise ProblemError(f"{where}: {kind}: expected its fields, found {spec!r}.")
    return kind, dict(spec)


def _check_keys(spec: Row, where: str, *, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    allowed = required + optional
    for key in spec:
        if key not in allowed:
            raise _unknown(f"{where}: key", key, allowed)
    missing = [key for key in required if spec.get(key) is None]
    if missing:
        raise ProblemError(f"{where}: missing {', '.join(missing)}.")


def _unknown(what: str, found: Any, known: Iterable[str]) -> ProblemError:
    known = list(known)
    return ProblemError(f"{what}: unknown '{found}'{did_you_mean(str(found), known)}; known: {', '.join(known)}.")


def _whole(spec: Row, key: str, where: str, *, minimum: int) -> int:
    value = spec[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ProblemError(f"{where}: {key}: expected a whole number of at least {minimum}, found {value!r}.")
    return value


def distinct(problems: list[Problem]) -> list[Problem]:
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(normalise(question(problem)), problem)
    kept = list(first.values())
    by_id: dict[str, Problem] = {}
    for problem in kept:
        if by_id.setdefault(problem.id, problem) is not problem:
            raise ProblemError(f"problem id '{problem.id}' names two different questions; make the id column unique.")
    return kept


def _with_unique_ids(problems: list[Problem]) -> list[Problem]:
    seen: dict[str, int] = {}
    unique = []
    for problem in problems:
        count = seen[problem.id] = seen.get(problem.id, 0) + 1
        unique.append(problem if count == 1 else replace(problem, id=f"{problem.id}.{count}"))
    return unique
