"""The command line: one function per command. Parse, call, print."""

import argparse
import errno
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff import __version__, config
from bakeoff.errors import UserError

if TYPE_CHECKING:
    from bakeoff.evaluation.figures import Summary
    from bakeoff.run import Run

STOPPED = "bakeoff: stopped; the same command goes on from here"
STAGES = {
    "prompts": "read and clean the logs, hold prompts out",
    "sample": "draw N completions of each training prompt",
    "reward": "train the reward model on testers' picks",
    "score": "reward every completion",
    "bake": "train the policy on the best of each group",
    "control": "the same bake on rewards dealt out at random",
    "referee": "train a second reward model on other picks, to judge the result",
    "evaluate": "measure first answers on held-out prompts, before and after",
    "summary": "write summary.json",
}

NESTED = [["reward", "train"], ["reward", "eval"]]
"""Commands of two words; `reward` alone is a stage."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it went well, 2 after a one-line error that the user can mend, 130 after Ctrl-C."""
    parser = _parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:2] in NESTED:
        words[:2] = [" ".join(words[:2])]
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
    from bakeoff.run import open_run, other_versions
    from bakeoff.training.figures import read_figures

    recipe = config.load(parsed.recipe, parsed.overrides)
    pipeline.check(recipe)
    folder = open_run(_out(parsed), recipe)
    _warn([*other_versions(folder), *pipeline.outdated(folder, recipe)])
    pipeline.run_all(folder, recipe, anyway=parsed.anyway)
    if not folder.report.exists():
        write_report(folder, recipe)
    summary = read_figures(folder.summary)
    _conclude(summary, folder.report, noted(summary, recipe))


def report(parsed: argparse.Namespace) -> None:
    """`bakeoff report RECIPE`: write the page of a finished run again."""
    from bakeoff.report.stage import report as write_report
    from bakeoff.run import open_run

    recipe = config.load(parsed.recipe, parsed.overrides)
    folder = open_run(_out(parsed), recipe)
    if not folder.summary.exists():
        raise UserError(f"{folder.folder}: report needs {folder.summary.name}; first run: bakeoff summary")
    write_report(folder, recipe)
    print(f"report: {folder.report}")


def stage(parsed: argparse.Namespace) -> None:
    """`bakeoff STAGE RECIPE`: one stage over a run folder; does nothing when it is done."""
    from bakeoff import pipeline
    from bakeoff.preferences.gate import doubts
    from bakeoff.run import open_run, other_versions, read_json

    recipe = config.load(parsed.recipe, parsed.overrides)
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
    settings = [word if "." in word.partition("=")[0] else f"prompts.{word}" for word in words if word not in logs]
    given = {"sources": logs, "prompt_field": parsed.prompt_field.replace("\\n", "\n")}
    recipe = config.overridden({"model": parsed.model, "prompts": given}, settings, "prompts")
    prepare.check(recipe.prompts)
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
    from bakeoff.report.data import data_text
    from bakeoff.report.stage import data_report

    print(data_text(data_report(folder)))
    print(f"report: {folder.folder / 'prompts.html'}")


def reward_train(parsed: argparse.Namespace) -> None:
    """`bakeoff reward train DATA...`: a reward model from what people prefer, in a plain `transformers` folder."""
    from bakeoff.math.statistics import Measured
    from bakeoff.preferences.stage import train_alone
    from bakeoff.report.wording import number, span

    data = [word for word in parsed.overrides if "=" not in word or Path(word).exists()]
    if not data:
        raise UserError(
            "reward train: no data given; name JSONL, CSV or Parquet files of picks, pairs, ratings or votes"
        )
    settings = [word for word in parsed.overrides if word not in data]
    whole = [s if s.partition("=")[0] in ("seed", "device", "dtype") else f"reward.{s}" for s in settings]
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
    from bakeoff.preferences.evaluation import evaluate_reward
    from bakeoff.preferences.load import read_picks, split
    from bakeoff.report.reward import render_reward, reward_text
    from bakeoff.run import Run, write_text
    from bakeoff.scoring.verifiers.answers import read_graded

    picks = read_picks(parsed.data)
    if parsed.heldout:
        picks = split(picks, parsed.heldout)[1]
    gold = read_graded(parsed.gold) if parsed.gold else []
    learn = read_picks(parsed.learn)
    folder = Run(parsed.out or Path("runs") / f"{Path(parsed.model).name}-eval")
    folder.folder.mkdir(parents=True, exist_ok=True)
    figures = evaluate_reward(folder, parsed.model, picks, gold, learn, base=parsed.base)
    page = folder.folder / "reward_eval.html"
    write_text(page, render_reward(figures, title=f"Reward model {Path(parsed.model).name}"))
    print(f"{reward_text(figures)}\n\nReport: {page}")


def check(parsed: argparse.Namespace) -> None:
    """`bakeoff check MODEL`: all that would go wrong with a model, a line each; exit code 2 where it cannot be used."""
    from bakeoff.check import REFUSED, findings

    recipe = config.overridden({"model": parsed.model}, parsed.overrides, "check")
    refused = 0
    for found in findings(parsed.model, recipe, judge=parsed.judge):
        print(f"{found.state:8} {found.name}: {found.said}", flush=True)
        refused += found.state == REFUSED
    if refused:
        raise UserError(f"model {parsed.model!r}: cannot be used as a {'judge' if parsed.judge else 'policy'}")


def _conclude(summary: "Summary", report: Path, notes: Sequence[str]) -> None:
    from bakeoff.report.verdict import verdict

    print("\n".join(["", verdict(summary), *notes, ""]))
    for alarm in summary["alarms"]:
        print(f"Alarm: {alarm}")
    print(f"Report: {report}")


def _out(parsed: argparse.Namespace) -> Path:
    return parsed.out or Path("runs") / parsed.recipe.stem


def _disk_full(error: BaseException) -> bool:
    """Whether an error, of whichever library, says that there is no space."""
    code = getattr(error, "errno", None)
    return code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
        words in str(error) for words in ("No space left on device", "File too large", "StorageFull")
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bakeoff", description="Bake best-of-N into a model's first answer.")
    parser.add_argument("--version", action="version", version=f"bakeoff {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, does: Callable[[argparse.Namespace], None], what: str) -> Callable[..., object]:
        one = commands.add_parser(name, help=what)
        one.set_defaults(command=does, stage=name, overrides=[])
        return one.add_argument

    add = command("run", run, "the whole loop of a recipe; goes on where it stopped")
    what = "go on with a reward model that does not beat chance and the longest answer"
    add("--anyway", action="store_true", help=what)
    _recipe_arguments(add)
    _recipe_arguments(command("report", report, "write report.html"))
    add = command("reward train", reward_train, "a reward model from files of what people prefer")
    add("overrides", nargs="*", metavar="DATA|key=value", help="files; settings of the reward section")
    add("--base", required=True, help="model whose weights it starts from: best the policy's own")
    add("--out", type=Path, required=True, help="folder of the reward model; nothing is there yet")
    _reward_eval_arguments(command("reward eval", reward_eval, "how far a reward model can be trusted"))
    add = command("check", check, "all that would go wrong with a model, before any work")
    add("model", help="hub id, folder or alias")
    add("overrides", nargs="*", metavar="section.key=value", help="settings: device, dtype, sample.max_tokens...")
    add("--judge", action="store_true", help="as a reward model, or the base of one, not as the policy")
    add = command("prompts", prompts, STAGES["prompts"])
    what = "a recipe, or logs: files, folders, globs, duckdb:FILE?TABLE, hf:OWNER/NAME"
    add("sources", nargs="+", metavar="RECIPE|SOURCE|key=value", help=what)
    add("--out", type=Path, help="the folder to write to")
    what = "the field that holds the prompt, or a template: '{title}\\n{body}'"
    add("--prompt-field", default="", help=what)
    add("--model", default="", help="whose tokens prompts.max_tokens counts (default: four bytes each)")
    for name, what in STAGES.items():
        if name != "prompts":
            _recipe_arguments(command(name, stage, what))
    return parser


def _reward_eval_arguments(add: Callable[..., object]) -> None:
    add("model", help="a sequence-classification folder with one output")
    add("data", nargs="+", help="files of picks; those of prompts that it was trained on decide nothing")
    add("--out", type=Path, help="folder of the figures and the page (default: runs/MODEL-eval)")
    what = "take only this share of the prompts: what a run with it held out"
    add("--heldout", type=float, default=0.0, help=what)
    add("--gold", type=Path, help="JSONL of prompt, completions, and gold or answer: the best of k")
    add("--learn", nargs="+", default=[], help="picks to train on: the learning curve (trains 4 models)")
    add("--base", default="smollm2-135m", help="what the models of the learning curve start from")


def _recipe_arguments(add: Callable[..., object]) -> None:
    add("recipe", type=Path, help="a TOML file of settings")
    add("overrides", nargs="*", metavar="section.key=value", help="settings that replace the recipe's")
    add("--out", type=Path, help="the run folder (default: runs/ and the recipe's name)")
