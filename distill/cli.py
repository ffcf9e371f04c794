"""The command line: `distill VERB ...`, one verb a stage, and the verbs that read the catalogue.

Every verb has `--json` (one JSON object on stdout). Exit codes: 0 pass or done, 1 crash, 2 usage or bad input, 3 gate
failed, 4 gate inconclusive, 5 invalid run, 6 infrastructure, 130 SIGINT, 143 SIGTERM. Stages are done by
`distill/commands.py`: each returns a JSON-clean mapping; `exit_code` in it decides the code, `summary` is for people.
Importing this loads typer and nothing heavier: each verb imports what it needs.
"""

from __future__ import annotations

import contextlib
import errno
import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, TextIO

import typer
from typer.exceptions import Abort, TyperException

from distill.errors import EXIT_INFRASTRUCTURE, EXIT_OK, EXIT_USAGE, DistillError

_result_stream: ContextVar[TextIO | None] = ContextVar("result_stream", default=None)
"""Where --json prints its one object; what a stage prints meanwhile goes to stderr."""

EXIT_SIGINT = 130
EXIT_SIGTERM = 143

app = typer.Typer(
    name="distill",
    help="Harvest reasoning traces from a teacher, keep what verifies, distil a student, gate it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

teachers_app = typer.Typer(help="Compare teachers before a harvest.", no_args_is_help=True)
app.add_typer(teachers_app, name="teachers")

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="Name in the catalogue, or path to a YAML file.")]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Run directory; every stage resumes in it.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a setting of the recipe; repeatable.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="PATH|NAME", help="Model to use instead of the recipe's.")
]
UrlOption = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help="OpenAI-compatible endpoint that serves the model.")
]
UrlsOption = Annotated[
    list[str] | None, typer.Option("--base-url", metavar="URL", help="Endpoint that serves the teacher; repeatable.")
]


class Executor(StrEnum):
    """Where a harvest runs."""

    local = "local"
    ray = "ray"


def _show_version(wanted: bool) -> None:
    if wanted:
        from distill import __version__

        typer.echo(f"distill {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    catalog_dirs: Annotated[
        list[Path] | None,
        typer.Option("--catalog", metavar="DIR", help="Folder with teachers/, students/, eval/ to look in first."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version.")
    ] = False,
) -> None:
    if catalog_dirs:
        from distill import catalog

        for directory in catalog_dirs:
            catalog.add_directory(directory)


@app.command()
def run(
    recipe: RecipeArgument,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run directory [runs/RECIPE].")] = None,
    set_: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and estimate, do nothing.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Every stage, resumable; exits with the gate's code."""
    if dry_run:
        return _dry_run(recipe, set_ or [], as_json)
    from distill.commands import run_command

    directory = out or Path("runs") / (Path(recipe).stem if recipe.endswith(".yaml") else recipe.replace("/", "-"))
    return _finish(run_command(recipe, directory, overrides=set_ or []), as_json)


def _dry_run(recipe: str, overrides: list[str], as_json: bool) -> int:
    from distill.check import check_recipe
    from distill.plan import plan as estimate
    from distill.recipes import load_recipe

    loaded = load_recipe(recipe, overrides)
    check_recipe(loaded)
    return _finish({"dry_run": True, **estimate(loaded)}, as_json)


@app.command()
def harvest(
    recipe: RecipeArgument,
    out: OutOption,
    set_: SetOption = None,
    base_url: UrlsOption = None,
    model: ModelOption = None,
    executor: Annotated[
        Executor, typer.Option("--executor", help="In this process, or spread over a Ray cluster (RAY_ADDRESS).")
    ] = Executor.local,
    as_json: JsonOption = False,
) -> int:
    """Sample the teacher and verify what it says."""
    from distill.commands import harvest_command

    result = harvest_command(
        recipe, out, overrides=set_ or [], base_urls=base_url or [], model=model, executor=executor.value
    )
    return _finish(result, as_json)


@app.command()
def verify(
    recipe: RecipeArgument,
    out: OutOption,
    set_: SetOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also samples whose verdict is current.")] = False,
    judge: Annotated[bool, typer.Option("--judge", help="Then ask the recipe's judge (harvest.judge).")] = False,
    as_json: JsonOption = False,
) -> int:
    """Verify what was harvested by today's verifiers, tests and gold answers; nothing is drawn."""
    from distill.commands import verify_command

    result = verify_command(recipe, out, overrides=set_ or [], everything=everything, judge=judge)
    return _finish(result, as_json)


@app.command()
def curate(recipe: RecipeArgument, out: OutOption, set_: SetOption = None, as_json: JsonOption = False) -> int:
    """Keep or drop each trace with a reason, and write the dataset."""
    from distill.commands import curate_command

    return _finish(curate_command(recipe, out, overrides=set_ or []), as_json)


@app.command()
def train(recipe: RecipeArgument, out: OutOption, set_: SetOption = None, as_json: JsonOption = False) -> int:
    """Fine-tune the student on the dataset."""
    from distill.commands import train_command

    return _finish(train_command(recipe, out, overrides=set_ or []), as_json)


@app.command("eval")
def evaluate(
    target: Annotated[str, typer.Argument(metavar="RECIPE|TASK", help="A recipe, or a task with --model.")],
    out: OutOption,
    set_: SetOption = None,
    model: ModelOption = None,
    base_url: UrlOption = None,
    as_json: JsonOption = False,
) -> int:
    """Measure base, student and teacher on the tasks, through lm-eval."""
    from distill.commands import eval_command

    return _finish(eval_command(target, out, overrides=set_ or [], model=model, base_url=base_url), as_json)


@app.command()
def gate(
    target: Annotated[str, typer.Argument(metavar="RECIPE|GATE", help="A recipe, or a gate with --model.")],
    out: OutOption,
    set_: SetOption = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Student: card, folder, or ledger (runs/x/ledger.db#NAME)."),
    ] = None,
    base_url: UrlOption = None,
    other: Annotated[
        list[str] | None,
        typer.Option("--other", metavar="ROLE=MODEL", help="base, teacher or checkpoint: card, folder, URL or ledger."),
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", metavar="BASELINE=MODEL", help="Score a published model in the same run."),
    ] = None,
    trained_on: Annotated[
        Path | None, typer.Option("--trained-on", metavar="DATA", help="Training data to search for the tasks' items.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Decide whether the student passes: exit 0, 3 failed, 4 inconclusive, 5 invalid."""
    from distill.commands import gate_command
    from distill.gate_stage import models_of

    models = models_of(model, base_url, other or [], anchor or [], trained_on)
    return _finish(gate_command(target, out, overrides=set_ or [], models=models), as_json)


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Run directory.")], as_json: JsonOption = False
) -> int:
    """Write report.html of a run directory."""
    from distill.commands import report_command

    return _finish(report_command(directory), as_json)


@teachers_app.command()
def compare(
    target: Annotated[
        str, typer.Argument(metavar="RECIPE|PROBLEMS", help="A recipe, or a .jsonl file with prompt and answer.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the ledger and the result; resumes.")],
    base_url: Annotated[
        list[str] | None, typer.Option("--base-url", metavar="URL", help="Endpoint of a teacher; repeatable.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME", help="Name at each --base-url, or one for all.")
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option("--teacher", metavar="CARD[=URL]", help="Card, loaded here or at URL; repeatable."),
    ] = None,
    problems: Annotated[int, typer.Option("--problems", metavar="N", help="Problems, each family in its share.")] = 300,
    samples: Annotated[int, typer.Option("--samples", metavar="N", help="Samples of each problem.")] = 1,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> int:
    """The same problems over several teachers: yield, length, cost, agreement, paired differences."""
    from distill.compare.command import compare_command

    result = compare_command(
        target,
        out,
        overrides=set_ or [],
        base_urls=base_url or [],
        models=model or [],
        cards=teacher or [],
        problems=problems,
        samples=samples,
    )
    return _finish(result, as_json)


@app.command()
def plan(
    recipe: RecipeArgument,
    hardware: Annotated[str | None, typer.Option("--hardware", metavar="NxDEVICE", help="Such as 8xh100.")] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> int:
    """Estimate samples, tokens, memory, time and cost."""
    from distill.plan import plan as estimate
    from distill.recipes import load_recipe

    return _finish(estimate(load_recipe(recipe, set_ or []), hardware), as_json)


@app.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME|PATH]...", help="Default: everything.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Check cards, recipes, tasks, gates and baselines, offline."""
    from distill.check import check as check_files

    result = check_files(names or [])
    faults = result["faults"]
    if not as_json:
        for fault in faults:
            typer.echo(f"error: {fault['message']}", err=True)
    verdict = f"{len(faults)} with faults" if faults else "all sound"
    code = EXIT_USAGE if faults else EXIT_OK
    return _finish({**result, "summary": f"checked {result['checked']} files: {verdict}", "exit_code": code}, as_json)


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="teachers, students, recipes, tasks, gates, baselines.")],
    as_json: JsonOption = False,
) -> int:
    """Names in the catalogue."""
    from distill import catalog
    from distill.config import load_yaml

    rows = []
    for name, path in catalog.entries(kind).items():
        data = load_yaml(path, function_tags=True)
        title = data.get("title") or data.get("description") or data.get("task_alias") or ""
        rows.append({"name": name, "title": " ".join(str(title).split()), "path": str(path)})
    width = max((len(row["name"]) for row in rows), default=0)
    lines = (f"{row['name']:<{width}}  {row['title']}".rstrip() for row in rows)
    return _finish({"kind": kind, "entries": rows, "summary": "\n".join(lines)}, as_json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name or path of anything in the catalogue.")],
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Which, where a name is several.")] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> int:
    """Card or recipe as resolved, as YAML."""
    from distill.show import resolved

    return _finish(resolved(name, kind, set_ or []), as_json)


def _finish(result: dict[str, Any], as_json: bool) -> int:
    """Print a verb's result, and give its exit code."""
    if as_json:
        payload = json.dumps({key: value for key, value in result.items() if key != "summary"}, default=str)
        print(payload, file=_result_stream.get())
    elif "summary" in result:
        typer.echo(result["summary"])
    else:
        from distill.show import to_yaml

        typer.echo(to_yaml({key: value for key, value in result.items() if key != "exit_code"}).rstrip())
    return int(result.get("exit_code", EXIT_OK))


def _report_error(message: str, kind: str, exit_code: int, as_json: bool) -> int:
    if as_json:
        payload = {"error": {"type": kind, "message": message, "exit_code": exit_code}}
        print(json.dumps(payload), file=sys.stderr)
    else:
        print(f"error: {message}", file=sys.stderr)
    return exit_code


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[list[int]]:
    """SIGTERM unwinds like Ctrl-C, so that everything finished is saved; the list then holds its number."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit code; crashes keep Python's traceback and exit code 1."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    with _sigterm_as_interrupt() as received:
        try:
            code = _invoke(given, as_json)
        except KeyboardInterrupt:
            code = EXIT_SIGINT
    if code == EXIT_SIGINT:
        code = EXIT_SIGTERM if received else EXIT_SIGINT
        message = "interrupted; everything finished so far is saved, the same command continues."
        return _report_error(message, "Interrupted", code, as_json)
    return code


def _invoke(given: list[str], as_json: bool) -> int:
    stream = _result_stream.set(sys.stdout)
    aside = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
    try:
        with aside:
            code = typer.main.get_command(app).main(args=given, prog_name="distill", standalone_mode=False)
        return int(code or EXIT_OK)
    except DistillError as error:
        return _report_error(str(error), type(error).__name__, error.exit_code, as_json)
    except TyperException as error:
        return _report_usage(error, as_json)
    except Abort:
        return EXIT_SIGINT
    except OSError as error:
        return _report_os_error(error, as_json)
    finally:
        _result_stream.reset(stream)


def _report_usage(error: TyperException, as_json: bool) -> int:
    show_itself = getattr(error, "show", None)
    if show_itself is None or as_json:
        return _report_error(error.format_message(), "UsageError", EXIT_USAGE, as_json)
    show_itself()
    return EXIT_USAGE


def _report_os_error(error: OSError, as_json: bool) -> int:
    """A full disk and a forbidden file are the user's to mend, wherever they come up; anything else is a crash."""
    where = f"{error.filename}: " if error.filename is not None else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"{where}the disk is full. Free space and run again; everything finished so far is saved."
        return _report_error(message, "InfrastructureError", EXIT_INFRASTRUCTURE, as_json)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and error.filename is not None:
        message = f"{where}{error.strerror}. Choose another --out, or mend the permissions."
        return _report_error(message, "ConfigError", EXIT_USAGE, as_json)
    raise error


if __name__ == "__main__":
    sys.exit(main())
