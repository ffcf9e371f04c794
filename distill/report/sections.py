"""The sections of a report that show figures: each takes the run and gives HTML, or says which command fills it.

    for anchor, heading, render in SECTIONS: render(run)

Not covered: the traces to read (`examples.py`), the verdict on top (`verdict.py`), how a figure is drawn (`plots.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any

from distill.evaluate.result import EvalResult, Scores
from distill.report import plots
from distill.report.page import again, details, figure, missing, paragraph, table, tiles
from distill.report.run_data import Row, RunData
from distill.report.svg import ROLES


def accuracy(run: RunData) -> str:
    """Accuracy of base, student and teacher on each task, overall and by family."""
    command = run.command("eval")
    if not run.results:
        return missing("No model of this run has been evaluated yet.", command)
    absent = [role for role in ROLES if role not in run.results]
    note = missing(f"Not evaluated yet: {', '.join(absent)}.", command) if absent else ""
    tasks = dict.fromkeys(task for result in run.results.values() for task in result.tasks)
    return note + "".join(_task(run, task, command) for task in tasks)


def _task(run: RunData, task: str, command: str) -> str:
    results = {role: result for role, result in run.results.items() if task in result.tasks}
    found = next(iter(results.values())).tasks[task]
    k, items = found.samples_per_item, len(found.items)
    intro = (
        f"{items} held-out items of task {task}, {k} sample{'s' if k > 1 else ''} an item. pass@1 is the mean over "
        f"samples, cons@{k} the answer most of an item's {k} samples agree on, pass@{k} at least one of them right."
    )
    caption = "pass@1; the whisker is the 95% interval of accuracy on new items like these."
    parts = [
        paragraph(intro, "muted"),
        figure(plots.accuracy_by_family(results, task=task), caption, command),
        _score_tables(results, task),
    ]
    if k > 1:
        consensus = plots.accuracy_by_family(results, task=task, metric="cons@k")
        caption = f"cons@{k}: accuracy of the most frequent answer, ties averaged."
        parts.insert(2, details(f"Consensus of {k} samples, by family", figure(consensus, caption, command)))
    return "".join(parts)


def _score_tables(results: dict[str, EvalResult], task: str) -> str:
    """All families together, and each of them to unfold."""
    measured = {role: result.tasks[task] for role, result in results.items()}
    columns = ("pass@1", "95% interval", "pass@k", "cons@k", "cut off", "no answer", "undecided", "mean tokens")
    total = table(("model", *columns), [(role, *_score_cells(found.scores)) for role, found in measured.items()])
    families = dict.fromkeys(name for found in measured.values() for name in found.families)
    if len(families) < 2:
        return total
    rows = [
        (name, role, *_score_cells(found.families[name]))
        for name in families
        for role, found in measured.items()
        if name in found.families
    ]
    return total + details("The same by family, in numbers", table(("family", "model", *columns), rows, words=(1,)))


def _score_cells(scores: Scores) -> tuple[str, ...]:
    low, high = scores["pass@1_interval"]
    return (
        f"{scores['pass@1']:.1%}",
        f"{low:.1%} to {high:.1%}",
        f"{scores['pass@k']:.1%}",
        f"{scores['cons@k']:.1%}",
        f"{scores['truncation_rate']:.1%}",
        f"{scores['no_answer_rate']:.1%}",
        f"{scores['undecided_rate']:.1%}",
        f"{scores['mean_completion_tokens']:.0f}",
    )


def problems(run: RunData) -> str:
    """How many problems there are, and how many were removed."""
    found = run.section("problems")
    if not found:
        return missing("No problems have been loaded yet.", run.command("harvest"))
    text = (
        f"{found['train']} training problems and {found['held_out']} held out. "
        f"{found['removed_overlap']} training problems were removed because their normalised text is held out, "
        f"{found['removed_duplicates']} because they came twice."
    )
    return paragraph(text)


def harvest(run: RunData) -> str:
    """Problems, accept rate by family, teacher tokens per accepted trace."""
    found, command = run.section("harvest"), run.command("harvest")
    if "samples" not in found:
        return problems(run) + missing("The teacher has not been sampled to the end yet.", command)
    cost = found["tokens_per_accepted_trace"]
    entries = [
        (f"{found['samples']:,}", f"samples of {found['problems']:,} problems", ""),
        (f"{found['accept_rate']:.1%}", "accepted: the answer verified", ""),
        ("none" if cost is None else f"{cost:,.0f}", "teacher tokens per accepted trace", "teacher"),
        (f"{found['tokens_per_second']:,.0f}", "tokens/s of new samples", ""),
    ]
    outcomes = ", ".join(f"{name} {count}" for name, count in found["outcomes"].items())
    text = f"Verdicts: {outcomes}. {found['samples_from_ledger']:,} samples came from the ledger."
    parts = [problems(run), tiles(entries), paragraph(text, "muted")]
    if found["families"]:
        svg = plots.accept_rate_by_family(found["families"])
        parts.append(figure(svg, "Share of samples whose answer verified, and what a trace costs.", command))
    return "".join(parts)


def curation(run: RunData) -> str:
    """What was kept, how long the traces are, and what was dropped for which reason."""
    command = run.command("curate")
    if run.traces is None or run.drops is None:
        return missing("There is no dataset yet.", command)
    kept, dropped = run.traces, run.drops
    parts = [paragraph(f"{len(kept):,} traces kept, {len(dropped):,} samples dropped, each with its reason.")]
    if kept or dropped:
        svg = plots.token_lengths_by_family(kept, dropped)
        parts.append(
            figure(
                svg,
                "Completion tokens of traces + drops; bins are the same in all panels, the scale of heights is not.",
                command,
            )
        )
    if kept:
        parts.append(_length_table(kept))
    if dropped:
        svg = plots.drops_by_reason(Counter(row["reason"] for row in dropped))
        parts.append(figure(svg, "Samples dropped, by reason. All of them are kept in dataset/drops.parquet.", command))
        counts = Counter((row["dropped_by"], row["reason"]) for row in dropped).most_common()
        rows = [(step, reason, f"{count:,}") for (step, reason), count in counts]
        parts.append(details("Drops by step and reason", table(("step", "reason", "samples"), rows, words=(1,))))
    return "".join(parts)


def _length_table(rows: Sequence[Row]) -> str:
    """Lengths of traces, all and by family."""
    families: dict[str, list[int]] = {}
    for row in rows:
        families.setdefault(row["family"], []).append(row["completion_tokens"])
    cells = [
        (name, f"{len(lengths):,}", *(f"{value:,.0f}" for value in (mean(lengths), median(lengths), max(lengths))))
        for name, lengths in [("all", [row["completion_tokens"] for row in rows]), *families.items()]
    ]
    return table(("family", "traces", "mean tokens", "median", "longest"), cells, total_rows=1)


def training(run: RunData) -> str:
    """Loss curve and throughput."""
    found, command = run.section("training"), run.command("train")
    if not found:
        return missing("The student has not been trained yet.", command)
    entries = [
        (f"{found['final_loss']:.3f}", "final loss, nats per trained token", "student"),
        (f"{found['optimizer_steps']:,}", "optimizer steps", ""),
        (f"{found['trained_tokens']:,}", "trained tokens", ""),
        (f"{found['trained_tokens_per_second']:,.0f}", "trained tokens/s", ""),
    ]
    text = (
        f"{found['num_documents']:,} traces, packed to {found['packing_efficiency']:.1%} of each row; "
        f"{found['num_overlong']:,} dropped as longer than a row. Loss counts completion tokens only."
    )
    if found.get("resumed_from_step"):
        text += f" Resumed from step {found['resumed_from_step']}."
    parts = [tiles(entries), paragraph(text, "muted")]
    if found["loss_curve"]:
        parts.append(figure(plots.loss_curve(found["loss_curve"]), "Training loss by optimizer step.", command))
    if found.get("precision"):
        parts.append(_precision(found["precision"]))
    return "".join(parts)


def _precision(found: Mapping[str, Any]) -> str:
    """The precision receipt of an FP8 run: what was multiplied by which kernel, and what the shadow probes saw."""
    receipt, probes = found["receipt"], found["probes"]
    rows = [
        (
            name,
            ", ".join(sorted({kernel for calls in linear["kernels"].values() for kernel in calls})),
            str(sum(linear["fallbacks"].values())),
            "; ".join(f"{operand} {figures['snr_db']:.1f} dB" for operand, figures in linear["operands"].items()),
        )
        for name, linear in receipt["linears"].items()
    ]
    text = (
        f"Trained in FP8 (recipe {receipt['recipe']} on {receipt['device']}): {receipt['converted']} of "
        f"{receipt['num_linears']} linears of the decoder layers."
    )
    if probes:
        gaps = ", ".join(f"{probe['relative_gap']:+.2%} at step {probe['step']}" for probe in probes[-5:])
        text += f" Loss of single micro-batches in FP8 against BF16, the last probes: {gaps}."
    columns = ("linears", "kernels", "fallbacks", "signal to noise of operands")
    return (
        "<h3>Precision</h3>" + paragraph(text) + details("The precision receipt", table(columns, rows, words=(0, 1, 3)))
    )


def provenance(run: RunData) -> str:
    """Time by stage, seeds, machine, versions, commit and the whole recipe."""
    parts = [_stages(run), "<h3>Seeds</h3>", _seeds(run)]
    for name, heading in (("machine", "Machine"), ("code", "Code"), ("versions", "Versions")):
        found = run.section(name)
        if found:
            rows = [(key, _plain(value)) for key, value in found.items()]
            parts.append(f"<h3>{heading}</h3>" + table(("", ""), rows, words=(0, 1)))
        else:
            parts.append(missing(f"run.json does not say ({name}).", run.command("run")))
    recipe = run.section("recipe")
    if recipe:
        parts.append(details("The recipe as resolved", _yaml(recipe)))
    return "".join(parts)


def _stages(run: RunData) -> str:
    stages = run.section("stages")
    if not stages:
        return missing("No stage has run yet.", run.command("run"))
    rows = [
        (name, found["state"], plots.duration(found.get("seconds") or 0.0), str(found.get("attempts", 1)))
        for name, found in stages.items()
    ]
    errors = [f"{name}: {found['error']}" for name, found in stages.items() if found.get("error")]
    caption = "Wall-clock time by stage; attempts of an interrupted stage add up."
    return (
        figure(plots.seconds_by_stage(stages), caption, run.command("run"))
        + table(("stage", "state", "time", "attempts"), rows, words=(1,))
        + "".join(paragraph(error, "small") for error in errors)
    )


def _seeds(run: RunData) -> str:
    recipe = run.section("recipe")
    rows = [("run", _plain(recipe.get("seed")))]
    rows += [(f"evaluation, {role}", str(result.run_seed)) for role, result in run.results.items()]
    for source in (recipe.get("problems") or {}).get("train") or []:
        gym = source.get("gym")
        if gym:
            rows.append((f"problems, {gym['family']}", str(gym["seed"])))
    if run.verdict and "resampling_seed" in run.verdict:
        rows.append(("gate, bootstrap", str(run.verdict["resampling_seed"])))
    text = "Every sample has its own seed, made of the run's seed, its prompt and its index; the ledger holds them."
    return table(("", "seed"), rows, words=(0,)) + paragraph(text, "small")


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _yaml(data: dict[str, Any]) -> str:
    import yaml

    from distill.report.page import block

    return block("recipe", yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110))


def report_command(run: RunData) -> str:
    return again(run.command("report"))
