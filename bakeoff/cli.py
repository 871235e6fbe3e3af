"""The command line: one function per command. Parse, call, print."""

import argparse
import errno
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff import __version__
from bakeoff.errors import UserError

if TYPE_CHECKING:
    from bakeoff.run import Run
    from bakeoff.settings import Recipe

STOPPED = "bakeoff: stopped; the same command goes on from here"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it went well, 2 after a one-line error that the user can mend, 130 after Ctrl-C."""
    parser = _parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if (name := " ".join(words[:2])) in ARGUMENTS:  # "reward train"; `reward` alone is a stage
        words[:2] = [name]
    parsed, rest = parser.parse_known_args(words)
    if any("=" not in argument or argument.startswith("-") for argument in rest):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    parsed.overrides += rest  # those that stand behind an option
    try:
        parsed.command(parsed)
    except UserError as error:
        print(f"bakeoff: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 130
    except Exception as error:
        if not _disk_full(error):
            raise
        print("bakeoff: the disk is full; free some space, then the same command goes on from here", file=sys.stderr)
        return 2
    return 0


def run(parsed: argparse.Namespace) -> None:
    """`bakeoff run RECIPE`: the whole loop."""
    from bakeoff import pipeline
    from bakeoff.report.stage import noted
    from bakeoff.report.stage import report as write_report
    from bakeoff.report.verdict import verdict
    from bakeoff.run import open_run, other_versions, read_json

    recipe = _recipe(parsed)
    pipeline.check(recipe)
    folder = open_run(_out(parsed), recipe)
    _warn([*other_versions(folder), *pipeline.outdated(folder, recipe)])
    pipeline.run_all(folder, recipe, anyway=parsed.anyway)
    if not folder.report.exists():
        write_report(folder, recipe)
    summary = read_json(folder.summary)
    alarms = [f"Alarm: {alarm}" for alarm in summary["alarms"]]
    print("\n".join(["", verdict(summary), *noted(summary, recipe), "", *alarms, f"Report: {folder.report}"]))


def report(parsed: argparse.Namespace) -> None:
    """`bakeoff report RECIPE`: write the page of a finished run again."""
    from bakeoff.report.stage import report as write_report
    from bakeoff.run import open_run

    recipe = _recipe(parsed)
    folder = open_run(_out(parsed), recipe)
    if not folder.summary.exists():
        raise UserError(f"{folder.folder}: report needs {folder.summary.name}; first run: bakeoff summary")
    write_report(folder, recipe)
    print(f"report: {folder.report}")


def stage(parsed: argparse.Namespace) -> None:
    """`bakeoff STAGE RECIPE`: one stage over a run folder; does nothing when it is done."""
    from bakeoff import pipeline
    from bakeoff.preferences import doubts
    from bakeoff.run import open_run, other_versions, read_json

    recipe = _recipe(parsed)
    chosen = next(s for s in pipeline.STAGES if s.name == parsed.stage)
    if parsed.stage != "prompts":  # which needs no picks yet
        pipeline.check(recipe, with_gold=chosen.opens_gold)
    folder = open_run(_out(parsed), recipe)
    made, judge = chosen.made(folder), folder.details("reward_model")
    _warn([*other_versions(folder), *pipeline.outdated(folder, recipe)])
    _warn(doubts(read_json(judge)) if judge.exists() else ())
    if not made.exists():
        if parsed.stage == "prompts":
            pipeline.check_holdout(recipe)
        pipeline.run_stage(folder, recipe, chosen)
    print(f"{parsed.stage}: {made}")
    if parsed.stage == "prompts":
        _tell_data(folder)


def _warn(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        print(f"warning: {sentence}", file=sys.stderr)


def prompts(parsed: argparse.Namespace) -> None:
    """`bakeoff prompts SOURCE... --out DIR`: clean logs without a recipe; `bakeoff prompts RECIPE`: that stage."""
    from bakeoff import config
    from bakeoff.data import prepare
    from bakeoff.data.read import sources
    from bakeoff.data.stage import prompts as clean
    from bakeoff.run import open_run, read_json

    words = [*parsed.sources, *parsed.overrides]
    if words[0].endswith(".toml"):
        if len(parsed.sources) > 1 and "=" not in parsed.sources[1]:
            raise UserError(f"prompts: give one recipe, or sources; found both {words[0]} and {words[1]}")
        parsed.recipe, parsed.overrides, parsed.stage = Path(words[0]), words[1:], "prompts"
        stage(parsed)
        return
    if parsed.out is None:
        raise UserError("prompts: where to? give --out DIR")
    logs = [word for word in words if "=" not in word or Path(word).exists() or word.startswith(("duckdb:", "hf:"))]
    named = [word if word.startswith("prompts.") else f"prompts.{word}" for word in words if word not in logs]
    given = {"sources": logs, "fields": {"prompt": parsed.prompt_field.replace("\\n", "\n")}}
    recipe = config.overridden({"model": parsed.model, "prompts": given}, named, "prompts")
    prepare.check_prompts(recipe.prompts)
    folder = open_run(parsed.out, recipe)
    if not folder.details("prompts").exists():
        clean(folder, recipe)
    _warn(sources.outdated(recipe.prompts.sources, folder.details("prompts")))
    counts = read_json(folder.details("prompts"))
    print(f"prompts: {folder.table('prompts')}")
    if counts["picks"]:
        said = ", ".join(f"{n:,} {kind}" for kind, n in counts["feedback"].items())
        print(f"picks: {folder.table('picks')}: {counts['picks']:,}, from what users said of old answers: {said}")
    _tell_data(folder)


def _tell_data(folder: "Run") -> None:
    from bakeoff.report.data import text
    from bakeoff.report.stage import data_report

    print(f"{text(data_report(folder))}\nreport: {folder.folder / 'prompts.html'}")


def reward_train(parsed: argparse.Namespace) -> None:
    """`bakeoff reward train DATA...`: a reward model from what people prefer, in a plain `transformers` folder."""
    from bakeoff import config
    from bakeoff.math.statistics import Measured
    from bakeoff.preferences.stage import train_alone
    from bakeoff.report.wording import number, span

    data = [word for word in parsed.overrides if "=" not in word or Path(word).exists()]
    if not data:
        raise UserError("reward train: no data given; name files of picks, pairs, ratings or votes")
    settings = [word for word in parsed.overrides if word not in data]
    whole = [s if s.partition("=")[0] in ("seed", "device", "dtype", "lora") else f"reward.{s}" for s in settings]
    recipe = config.overridden({"model": parsed.base, "reward": {"picks": data}}, whole, "reward train")
    figures = train_alone(recipe, parsed.out)
    for name, value in figures.items():
        if isinstance(value, dict) and value.get("value") is not None:
            measured = Measured.of(value)
            print(f"{name}: {number(measured.value)} ({span(measured, number)}, n = {measured.n})")
    aside = f"; {n} rows that say nothing passed over" if (n := figures["passed_over"]) else ""
    print(f"picks: {figures['picks']['train']} trained on, {figures['picks']['heldout']} held out{aside}\n{parsed.out}")


def reward_eval(parsed: argparse.Namespace) -> None:
    """`bakeoff reward eval MODEL DATA`: how far a reward model can be trusted, as text, JSON and a page."""
    from bakeoff.preferences import read_picks, split
    from bakeoff.preferences.evaluation import evaluate_reward
    from bakeoff.report.reward import render, text
    from bakeoff.run import Run, write_text
    from bakeoff.scoring import read_graded

    picks = read_picks(parsed.data)
    if parsed.heldout:
        picks = split(picks, parsed.heldout)[1]
    gold = read_graded(parsed.gold) if parsed.gold else []
    learn = read_picks(parsed.learn)
    folder = Run(parsed.out or Path("runs") / f"{Path(parsed.model).name}-eval")
    folder.folder.mkdir(parents=True, exist_ok=True)
    figures = evaluate_reward(folder, parsed.model, picks, gold, learn, base=parsed.base)
    page = folder.folder / "reward_eval.html"
    write_text(page, render(figures, title=f"Reward model {Path(parsed.model).name}"))
    print(f"{text(figures)}\n\nReport: {page}")


def check(parsed: argparse.Namespace) -> None:
    """`bakeoff check MODEL`: all that would go wrong with a model, a line each; exit code 2 where it cannot be used."""
    from bakeoff import config
    from bakeoff.check import REFUSED, findings

    recipe = config.overridden({"model": parsed.model}, parsed.overrides, "check")
    refused = 0
    for found in findings(parsed.model, recipe, judge=parsed.judge):
        print(f"{found.state:8} {found.name}: {found.said}", flush=True)
        refused += found.state == REFUSED
    if refused:
        raise UserError(f"model {parsed.model!r}: cannot be used as a {'judge' if parsed.judge else 'policy'}")


def _recipe(parsed: argparse.Namespace) -> "Recipe":
    from bakeoff import config

    return config.load(parsed.recipe, parsed.overrides)


def _out(parsed: argparse.Namespace) -> Path:
    return parsed.out or Path("runs") / parsed.recipe.stem


def _disk_full(error: BaseException) -> bool:
    """Whether an error, of whichever library, says that there is no space."""
    code = getattr(error, "errno", None)
    return code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
        words in str(error) for words in ("No space left on device", "File too large", "StorageFull")
    )


COMMANDS = {
    "The whole loop": {
        "run": "all stages of a recipe; goes on where it stopped",
        "check": "what would go wrong with a model, before any work",
    },
    "Data": {"prompts": "read and clean logs, by a recipe or without one; hold prompts out"},
    "Sampling": {"sample": "sample N completions of each training prompt"},
    "Preferences": {
        "reward": "train the reward model of a recipe on people's picks",
        "reward train": "train a reward model on files of what people prefer",
        "reward eval": "measure how far a reward model can be trusted",
    },
    "Scoring": {"score": "reward every completion"},
    "Training": {"bake": "train the policy on the best of groups", "control": "the same training on random rewards"},
    "Evaluation": {
        "referee": "train a second reward model, to judge the result",
        "evaluate": "measure first answers on held-out prompts",
        "summary": "write summary.json",
    },
    "Report": {"report": "write report.html again"},
}
"""By the part of the loop they belong to, the commands and what they do."""
DOES: dict[str, Callable[[argparse.Namespace], None]] = {
    "run": run,
    "check": check,
    "prompts": prompts,
    "reward train": reward_train,
    "reward eval": reward_eval,
    "report": report,
}
"""What runs a command; each other one is a stage of a recipe."""
EXAMPLES = {
    "run": "run recipes/quick.toml sample.prompts=24 --out runs/small",
    "check": "check smollm2-135m",
    "prompts": """prompts examples/filings/log.jsonl languages='["en"]' --out runs/prompts""",
    "reward train": "reward train examples/filings/picks.jsonl --base smollm2-135m --out runs/judge",
    "reward eval": "reward eval runs/judge examples/filings/picks.jsonl --heldout 0.2",
}


NAMED = {"nargs": "*", "metavar": "section.key=value"}
OF_A_RECIPE: dict[str, dict[str, Any]] = {
    "recipe": dict(type=Path, help="a TOML file of settings"),
    "overrides": dict(**NAMED, help="settings that replace the recipe's"),
    "--out": dict(type=Path, help="the run folder (default: runs/ and the recipe's name)"),
}
ARGUMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "run": {
        **OF_A_RECIPE,
        "--anyway": dict(action="store_true", help="go on where the reward model does not beat chance or the longest"),
    },
    "check": {
        "model": dict(help="hub id, folder or alias"),
        "overrides": dict(**NAMED, help="settings: device, dtype, sample.max_tokens..."),
        "--judge": dict(action="store_true", help="as a reward model, or the base of one, not as the policy"),
    },
    "prompts": {
        "sources": dict(nargs="+", metavar="RECIPE|SOURCE|key=value", help="a recipe, or logs: files, folders, globs"),
        "--out": dict(type=Path, help="the folder to write to"),
        "--prompt-field": dict(default="", help="the field that holds the prompt, or a template: '{title}\\n{body}'"),
        "--model": dict(default="", help="whose tokens prompts.max_tokens counts (default: four bytes each)"),
    },
    "reward train": {
        "overrides": dict(nargs="*", metavar="DATA|key=value", help="files; settings of the reward section"),
        "--base": dict(required=True, help="model whose weights it starts from: best the policy's own"),
        "--out": dict(type=Path, required=True, help="folder of the reward model; nothing is there yet"),
    },
    "reward eval": {
        "model": dict(help="a sequence-classification folder with one output"),
        "data": dict(nargs="+", help="files of picks; those of prompts that it was trained on decide nothing"),
        "--out": dict(type=Path, help="folder of the figures and the page (default: runs/MODEL-eval)"),
        "--heldout": dict(type=float, default=0.0, help="take only this share of the prompts: what a run held out"),
        "--gold": dict(type=Path, help="JSONL of prompt, completions, and gold or answer: the best of k"),
        "--learn": dict(nargs="+", default=[], help="picks to train on: the learning curve (trains 4 models)"),
        "--base": dict(default="smollm2-135m", help="what the models of the learning curve start from"),
    },
}
"""What each command takes; one that is not here takes a recipe."""


def _parser() -> argparse.ArgumentParser:
    said, raw = ["Bake best-of-N into a model's first answer."], argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="bakeoff", usage="bakeoff COMMAND ...", formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"bakeoff {__version__}")
    parsers = parser.add_subparsers(required=True, metavar="COMMAND", help=argparse.SUPPRESS, prog="bakeoff")
    for group, commands in COMMANDS.items():
        said.append("\n".join([f"{group}:", *(f"  {name:<13} {what}" for name, what in commands.items())]))
        for name, what in commands.items():
            example = EXAMPLES.get(name, f"{name} recipes/quick.toml")
            one = parsers.add_parser(
                name, description=f"{what}.", epilog=f"example:\n  bakeoff {example}", formatter_class=raw
            )
            one.set_defaults(command=DOES.get(name, stage), stage=name, overrides=[])
            for argument, how in ARGUMENTS.get(name, OF_A_RECIPE).items():
                one.add_argument(argument, **how)
    parser.description = "\n\n".join(said)
    parser.epilog = "bakeoff COMMAND --help lists the arguments of a command and shows an example."
    return parser
