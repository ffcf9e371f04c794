"""Recipes: one YAML file says everything about one run, from the teacher to the gate.

    recipe = load_recipe("tiny/quickstart", ["seed=2", "harvest.samples_per_problem=4"])
    recipe.training.learning_rate, recipe.problems.sources(), recipe.base_dir

What a recipe leaves out is filled from the cards it names, so a loaded recipe is complete and `distill show` prints all
of it. Not covered: doing it (`distill/run.py`), the parameters of each curation step (`distill/curate/steps/`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator

from distill import catalog
from distill.cards import Count, FileModel, Fraction, StudentCard, TeacherCard, load_student, load_teacher
from distill.config import Strict, apply_overrides, load_yaml
from distill.errors import did_you_mean
from distill.records import SamplingParams

Temperature = Annotated[float, Field(ge=0)]
AtLeastZero = Annotated[float, Field(ge=0)]


class GymSource(Strict):
    """Problems of a reasoning-gym family, made on the spot from a seed; `config` is the family's own.

    `instruction`, in every kind of source, is text that follows each question in its prompt.
    """

    family: str
    size: Count
    seed: int = Field(ge=0)
    config: dict[str, Any] = Field(default_factory=dict)
    instruction: str | None = None


class JsonlSource(Strict):
    """Problems in a JSONL file, its path relative to the recipe; `prompt` to `id` are column names.

    Verifier code needs `tests` (forms: distill/testcases.py) and may need `entry_point`, the function's name; choice
    takes `choices`; majority, for problems without a gold answer, takes no `answer`; all others need it.
    `answer_after` is a marker in the answer column that the gold answer follows (GSM8K: `####`).
    """

    path: str
    prompt: str
    answer: str | None = None
    tests: str | None = None
    entry_point: str | None = None
    choices: str | None = None
    id: str | None = None
    domain: str
    licence: str
    verifier: Literal["math", "exact", "code", "choice", "majority"]
    family: str | None = None
    limit: Count | None = None
    instruction: str | None = None
    answer_after: str | None = None


class DatasetColumns(Strict):
    prompt: str
    answer: str | None = None
    tests: str | None = None
    entry_point: str | None = None
    choices: str | None = None
    id: str | None = None


class DatasetSource(Strict):
    """Problems in a dataset that `datasets.load_dataset` finds by name."""

    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    data_files: str | list[str] | None = None
    columns: DatasetColumns
    domain: str
    licence: str
    verifier: Literal["math", "exact", "code", "choice", "majority"]
    family: str | None = None
    limit: Count | None = None
    instruction: str | None = None
    answer_after: str | None = None


class ProblemSource(Strict):
    """Exactly one of `gym`, `jsonl` and `dataset`."""

    gym: GymSource | None = None
    jsonl: JsonlSource | None = None
    dataset: DatasetSource | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> ProblemSource:
        given = [name for name in ("gym", "jsonl", "dataset") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"expected exactly one of gym, jsonl and dataset, found {found}.")
        return self


class Problems(Strict):
    """What is sampled from; held-out problems of the evaluation tasks are removed from it by the run."""

    train: list[ProblemSource] = Field(min_length=1)
    deduplicate: bool = True

    def sources(self) -> list[dict[str, Any]]:
        """The sources as plain mappings, as `problems.load_problems` takes them."""
        return [source.model_dump(mode="json", exclude_none=True) for source in self.train]


class Adaptive(Strict):
    """When sampling of a problem stops early; the arithmetic is in distill/harvest/policy.py."""

    enough: Count = 1
    """Stop when so many traces of a problem verified."""
    hopeless_below: float = Field(default=0.1, ge=0, lt=1)
    """Stop when the chance that any of the samples left verifies is below this; 0 never."""
    prior: tuple[PositiveFloat, PositiveFloat] = (0.5, 0.5)
    """Beta(a, b) prior of the pass rate."""
    most_if_rare: Count | None = None
    """Most samples of a problem that has some verified traces, but not enough; null is samples_per_problem."""


class Voting(Strict):
    """When the samples of a problem without a gold answer (verifier majority) are taken to agree."""

    min_votes: Count = 4
    min_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the votes that the leading answer needs; it must lead alone in any case."""


class Budget(Strict):
    """What a harvest may spend; null is no limit."""

    tokens: Count | None = None
    usd: float | None = Field(default=None, gt=0)
    hours: float | None = Field(default=None, gt=0)


class Judge(Strict):
    """A model that is asked where the verifier has no answer to rely on; off unless the recipe has this section.

    With `base_url`, `model` is the name the server knows (null: its only one); without, a teacher card's name or a
    checkpoint folder, loaded here. Its key is in the environment variable that `api_key_env` names: not the teacher's,
    which another host must not see.
    """

    base_url: str | None = None
    model: str | None = None
    outcomes: list[Literal["undecided", "wrong", "no_answer", "error"]] = Field(default=["undecided"], min_length=1)
    """The verifier's outcomes that the judge is asked about, and that its verdict then stands for."""
    votes: Literal[1, 3] = 1
    """Replies a verdict; of three, two must agree."""
    max_new_tokens: Count = 512
    temperature: Temperature = 0.0
    check_share: float = Field(default=0.05, ge=0, le=1)
    """Share of the samples the verifier decided that is judged too: how often they agree is reported."""
    max_in_flight: Count = 64
    batch_size: Count = 32
    """For a judge that is loaded here."""
    api_key_env: str = "DISTILL_JUDGE_API_KEY"
    extra_body: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> Judge:
        if self.base_url is None and self.model is None:
            raise ValueError("names no judge; set base_url, or model to a teacher card or a checkpoint folder.")
        if self.votes > 1 and self.temperature == 0:
            raise ValueError(f"votes: {self.votes} at temperature 0 are {self.votes} times the same; set temperature.")
        return self


class Harvest(Strict):
    """How the teacher is sampled; null is what the teacher card says."""

    samples_per_problem: Count
    """At most so many; without `adaptive` exactly so many."""
    adaptive: Adaptive | None = None
    token_ladder: list[Count] = Field(default=[])
    """Lower token limits to try first, ascending; what they cut goes on with the next, max_new_tokens at last."""
    budget: Budget = Field(default_factory=Budget)
    voting: Voting = Field(default_factory=Voting)
    batch_size: Count = 128
    temperature: Temperature | None = None
    top_p: Fraction | None = None
    max_new_tokens: Count | None = None
    verify_workers: Count = 2
    verify_timeout_seconds: float = Field(default=30.0, gt=0)
    judge: Judge | None = None

    @model_validator(mode="after")
    def _ladder_ascends(self) -> Harvest:
        rungs = [*self.token_ladder, *([self.max_new_tokens] if self.max_new_tokens else [])]
        if rungs != sorted(set(rungs)):
            raise ValueError(f"token_ladder: expected ascending limits below max_new_tokens, found {rungs}.")
        return self


class LoopRule(Strict):
    """A loop: so many words, so many times (`distill/engines/degeneration.py`)."""

    words: Count = 20
    times: Annotated[int, Field(ge=2)] = 20


class Endpoint(Strict):
    """How a served model is asked (`--base-url`); time limits follow the progress of a stream, never its whole length.

    The key is in the environment: DISTILL_API_KEY, or the variable that `api_key_env` names.
    """

    max_in_flight: Count = 256
    """Requests at a time, over all replicas; the server may take fewer, then the engine asks fewer."""
    idle_seconds: float = Field(default=120.0, gt=0)
    """A stream without new text for so long is given up and asked again."""
    first_token_seconds: float = Field(default=1800.0, gt=0)
    """The same before the first text: servers queue."""
    give_up_seconds: float = Field(default=600.0, gt=0)
    """End with exit code 6 when no replica has accepted anything for so long."""
    max_attempts: Count = 6
    """Attempts a request whose answers come broken; waiting for a busy or dead server does not count."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    """Log-probabilities of this many tokens at each position are asked for."""
    save_partial_seconds: float = Field(default=5.0, gt=0)
    """What has come of unfinished completions goes to the ledger so often: a kill -9 loses at most so much of each."""
    continue_partial: Literal["auto", "never"] = "auto"
    """Go on from what is there of an unfinished completion where the probe saw that it works; never: start anew."""
    abort_loops: LoopRule | None = Field(default_factory=LoopRule)
    """Stop a stream that goes round in circles; null never."""
    abort_language_mixing: Fraction | None = None
    """Stop a stream when this share of its last 1,000 letters is in scripts that the prompt has not; null never."""
    api_key_env: str = "DISTILL_API_KEY"
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Goes into every request as it is, such as `chat_template_kwargs: {thinking: true}`."""


class Executor(Strict):
    """How `--executor ray` spreads a harvest over a Ray cluster (distill/harvest/ray_executor.py)."""

    workers: Count | None = None
    """null is one a node with --base-url, else as many as the cluster's CPUs and GPUs take."""
    problems_per_task: Count | None = None
    """Problems that a worker takes at a time; null is a quarter of its share."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    gpus_per_worker: Annotated[float, Field(ge=0)] | None = None
    """null is 1 where the workers load the model and the cluster has GPUs, else 0."""


class Lora(Strict):
    """As peft's LoraConfig; null target modules are the student card's."""

    r: Count = 16
    lora_alpha: Count = 32
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: list[str] | None = None


class Fp8(Strict):
    """FP8 training after DeepSeek-V3; what the recipes trade is in distill/fp8/recipe.py and docs/fp8.md."""

    recipe: Literal["fast", "accurate", "small", "bf16"] = "fast"
    skinny_below: AtLeastZero | None = None
    """Linears stay in BF16 if N K / (N + K) is less; null is the figure of distill/fp8/recipe.py."""
    keep_bf16: list[str] = Field(default=[])
    """Linears whose name ends so stay in BF16."""
    power_of_two_scales: bool | None = None
    """null is what the device needs."""
    allow_fallback: bool = False
    """Let a product run on a slower FP8 kernel than the device's own; else that is an error."""
    probe_every_steps: Count | None = 100
    """Compare loss and gradients with BF16 every so many optimizer steps; null never."""
    promote_below: float | None = Field(default=None, ge=-1, le=1)
    """Put a linear in BF16 whose gradient's cosine with BF16 falls below."""


class Training(Strict):
    """Supervised fine-tuning on completions; names are transformers', peft's and DeepSpeed's own."""

    precision: Literal["fp32", "bf16", "fp8"] = "fp32"
    fp8: Fp8 | None = None
    method: Literal["full", "lora"] = "full"
    lora: Lora | None = None
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(gt=0)
    weight_decay: AtLeastZero = 0.0
    warmup_fraction: float = Field(default=0.03, ge=0, le=1)
    lr_scheduler_type: Literal["cosine", "linear", "constant", "warmup_stable_decay"] = "cosine"
    min_learning_rate_ratio: float = Field(default=0.0, ge=0, le=1)
    """Floor of the cosine schedule as a share of learning_rate; DeepSeek-R1's distillation ends at 0.1."""
    num_train_epochs: float = Field(gt=0)
    max_length: Count
    rows_per_micro_batch: Count = 1
    gradient_accumulation_steps: Count = 1
    attn_implementation: Literal["eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"] = "sdpa"
    max_grad_norm: float = Field(default=1.0, gt=0)
    save_every_steps: Count = 100
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 0
    num_processes: Count = 1
    gradient_checkpointing: bool = False
    export: list[Literal["bf16", "fp8"]] = Field(default=[])
    """Further copies of the student, in student/bf16 and student/fp8 (DeepSeek's block FP8), with logit differences."""

    @model_validator(mode="after")
    def _fits_together(self) -> Training:
        if self.lora is not None and self.method != "lora":
            raise ValueError("lora: given although method is 'full'; set method: lora, or remove it.")
        if self.fp8 is not None and self.precision != "fp8":
            raise ValueError(f"fp8: given although precision is '{self.precision}'; set precision: fp8, or remove it.")
        return self


class Evaluation(Strict):
    """What is measured, for base, student and teacher alike; null is as harvested."""

    tasks: list[str] = Field(min_length=1)
    samples_per_item: Count
    batch_size: Count = 128
    max_new_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Fraction | None = None
    base_max_new_tokens: Count | None = None
    """Cap for the base student, which answers directly; null is max_new_tokens."""
    force_close: list[Count] = Field(default_factory=list)
    """Token budgets at which thoughts are closed and answered, beside the curve of those that are cut there
    (`distill eval TASK`; a recipe's evaluation does not)."""
    data: dict[str, Path] = Field(default_factory=dict)
    """Task name -> a JSONL file in the place of its dataset, relative to the recipe."""

    def local_data(self, base_dir: Path) -> dict[str, Path]:
        """`data` as whole paths."""
        return {task: base_dir / path.expanduser() for task, path in self.data.items()}


class Recipe(FileModel):
    """One run."""

    kind: Literal["recipe"]
    description: str
    seed: int
    teacher: str
    student: str
    problems: Problems
    harvest: Harvest
    endpoint: Endpoint = Field(default_factory=Endpoint)
    executor: Executor = Field(default_factory=Executor)
    curation: list[dict[str, dict[str, Any]]]
    training: Training
    evaluation: Evaluation
    gate: str

    @property
    def base_dir(self) -> Path:
        """What relative paths in the recipe are relative to."""
        return self.path.parent if self.path is not None else Path.cwd()

    @field_validator("curation", mode="before")
    @classmethod
    def _bare_step_names(cls, steps: Any) -> Any:
        """`- verified` and `- verified:` stand for `- verified: {}`."""
        if not isinstance(steps, list):
            return steps
        return [_with_parameters(step) for step in steps]

    @field_validator("curation")
    @classmethod
    def _known_steps(cls, steps: list[dict[str, dict[str, Any]]]) -> list[dict[str, dict[str, Any]]]:
        known = step_names()
        for step in steps:
            if len(step) != 1:
                raise ValueError(f"expected one step an entry, found {len(step)}: {', '.join(step) or 'nothing'}.")
            name = next(iter(step))
            if name not in known:
                hint = did_you_mean(name, known) or ";"
                raise ValueError(f"'{name}' is not a curation step{hint} steps: {', '.join(known)}.")
        return steps


def _with_parameters(step: Any) -> Any:
    if isinstance(step, str):
        return {step: {}}
    if isinstance(step, dict):
        return {name: {} if params is None else params for name, params in step.items()}
    return step


def step_names() -> list[str]:
    """The curation steps that exist: a step is a file of `distill/curate/steps/`."""
    folder = Path(__file__).resolve().parent / "curate" / "steps"
    return sorted(path.stem for path in folder.glob("*.py") if not path.name.startswith("_"))


def load_recipe(name: str | Path, overrides: Sequence[str] = (), extra_dirs: Iterable[str | Path] = ()) -> Recipe:
    """The recipe of a name or path, with overrides set and what it leaves out filled from its cards.

    Raises: CatalogError if it or a card is not found, ConfigError if anything in them is wrong.
    """
    extra = tuple(extra_dirs)
    path = catalog.find("recipes", name, extra)
    data = apply_overrides(load_yaml(path), overrides)
    for field in ("teacher", "student"):
        if isinstance(data.get(field), str):
            data[field] = _beside(path, data[field])
    teacher = load_teacher(data["teacher"], extra) if isinstance(data.get("teacher"), str) else None
    student = load_student(data["student"], extra) if isinstance(data.get("student"), str) else None
    recipe: Recipe = Recipe.from_data(fill(data, teacher, student), path)
    return recipe


def _beside(path: Path, name: str) -> str:
    """A card given as a relative path is relative to the recipe; anything else is a name."""
    local = path.parent / name
    return str(local) if name.startswith(("./", "../")) or (name.endswith(".yaml") and local.is_file()) else name


def fill(data: dict[str, Any], teacher: TeacherCard | None, student: StudentCard | None) -> dict[str, Any]:
    """A copy of the recipe's data with every null or missing setting that a card or the harvest answers."""
    filled = dict(data)
    if teacher is not None:
        sampling = teacher.sampling.model_dump(include={"temperature", "top_p", "max_new_tokens"})
        filled["harvest"] = _with_defaults(data.get("harvest"), sampling)
        if isinstance(filled["harvest"], dict):
            asked = {key: filled["harvest"].get(key) for key in sampling}
            filled["evaluation"] = _with_defaults(data.get("evaluation"), asked)
    if student is not None:
        filled["training"] = _fill_training(data.get("training"), student)
    return filled


def _fill_training(section: Any, student: StudentCard) -> Any:
    card = student.training
    defaults = {"learning_rate": card.learning_rate, "num_train_epochs": card.epochs, "max_length": card.max_length}
    training = _with_defaults(section, defaults)
    if isinstance(training, dict) and training.get("method") == "lora":
        lora = {} if training.get("lora") is None else training["lora"]
        training["lora"] = _with_defaults(lora, {"target_modules": student.lora_target_modules})
    return training


def _with_defaults(section: Any, defaults: dict[str, Any]) -> Any:
    if not isinstance(section, dict):
        return section
    return {**section, **{key: value for key, value in defaults.items() if section.get(key) is None}}


def sampling_params(settings: Harvest | Evaluation) -> SamplingParams:
    """A section's settings; a loaded recipe has them all, what it left out came from the teacher card."""
    assert settings.temperature is not None and settings.top_p is not None and settings.max_new_tokens is not None
    return SamplingParams(settings.temperature, settings.top_p, settings.max_new_tokens)
