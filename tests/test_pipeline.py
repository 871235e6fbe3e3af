"""The whole loop on a tiny model: every stage for real, killed and resumed, and with everything a user gets wrong."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch
from conftest import write_jsonl
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from bakeoff import config, pipeline
from bakeoff.cli import main
from bakeoff.errors import UserError
from bakeoff.evaluation.stage import UNRELATED
from bakeoff.models.load import save_model
from bakeoff.preferences import reward_model
from bakeoff.records import Completion, Failure, Message, Prompt, Score, SetAside, read_table
from bakeoff.run import Run, open_run
from bakeoff.sampling import choose

RECIPE = """
model = "{model}"
dtype = "float32"
[prompts]
sources = ["log.jsonl"]
heldout = 0.2
[sample]
group_size = 4
max_tokens = 24
stop = ["a", "e", "0", "T"]
[reward]
picks = ["picks.jsonl"]
[bake]
batch_size = 8
[evaluate]
holdout = "gold.jsonl"
samples = 2
"""
WORDS = ["revenue", "cash", "debt", "staff", "stores", "patents", "plants", "rent", "taxes", "margin"]
QUESTIONS = [f"How much {w} did company {c} report in its filing?" for w in WORDS for c in ("Alder", "Birch", "Cedar")]


@pytest.fixture
def recipe(tmp_path, tiny_llama) -> Path:
    write_jsonl(tmp_path / "log.jsonl", [{"prompt": q} for q in QUESTIONS] + [{"prompt": ""}])
    picks = [{"prompt": q.replace("report", "state"), "completions": ["aa", "b", "ccc"], "pick": 1} for q in QUESTIONS]
    write_jsonl(tmp_path / "picks.jsonl", picks)
    gold = [{"prompt": q.replace("report", "name"), "answer": "12", "verifier": "number"} for q in QUESTIONS[:6]]
    write_jsonl(tmp_path / "gold.jsonl", gold)
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(model=tiny_llama))
    return path


def bakeoff(*arguments, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "bakeoff", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.policy / "model.safetensors")


def test_the_loop(recipe, tmp_path, capsys, tiny_llama, monkeypatch):
    run, engines = Run(tmp_path / "run"), list[str]()
    start = choose.engine
    monkeypatch.setattr(choose, "engine", lambda model, recipe: engines.append(model) or start(model, recipe))
    assert main(["run", str(recipe), "--anyway", "--out", str(run.folder)]) == 0
    assert str(run.report) in capsys.readouterr().out
    sampled, evaluated = engines[0], engines[1:]
    assert evaluated == [sampled, str(run.policy), str(run.control)]  # one for each model, whatever it is asked for

    prompts = read_table(run.table("prompts"), Prompt)
    completions = read_table(run.table("completions"), Completion)
    assert len(prompts) == len(QUESTIONS) and len(read_table(run.table("set_aside"), SetAside)) == 1
    training = sorted(p.id for p in prompts if p.split == "train")
    assert [c.prompt_id for c in completions] == [key for key in training for _ in range(4)]
    scores = read_table(run.table("scores"), Score)
    assert [s.completion_id for s in scores] == [c.id for c in completions]

    summary = json.loads(run.summary.read_text())
    assert summary["prompts"]["read"] == len(QUESTIONS) + 1 and summary["prompts"]["dropped"] == {"empty": 1}
    for part in (summary["quality"], summary["reward"]):
        assert {"value", "low", "high", "n"} <= part["gap_closed"].keys()
    assert summary["quality"]["gain"]["n"] == 6
    assert summary["reward"]["gain"]["n"] == 6 + len(QUESTIONS) - len(training)
    assert set(summary["seconds"]) == {s.name for s in pipeline.STAGES if s.name not in ("summary", "referee")} | {
        "total"
    }

    AutoModelForCausalLM.from_pretrained(run.policy)
    assert AutoModelForSequenceClassification.from_pretrained(run.reward_model).config.num_labels == 1
    before = load_file(tiny_llama / "model.safetensors")
    assert any((before[name] != w).any() for name, w in weights(run).items())
    assert not list((run.folder / "parts").iterdir())

    made = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*.parquet")}
    assert main(["run", str(recipe), "--anyway", "--out", str(run.folder)]) == 0
    assert made == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*.parquet")}
    assert "newer" not in capsys.readouterr().err

    for name in ("log", "picks", "gold"):
        os.utime(tmp_path / f"{name}.jsonl", (time.time() + 60,) * 2)
    assert main(["run", str(recipe), "--anyway", "--out", str(run.folder)]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    for line, name, of in zip(told, ("log", "picks", "gold"), ("prompts", "reward_model", "evaluation"), strict=True):
        assert f"{name}.jsonl is newer than {run.folder / of}.json" in line and "another --out" in line


def test_a_reward_model_that_has_shown_nothing_stops_the_run_before_the_bake(recipe, tmp_path, capsys):
    run = Run(tmp_path / "run")
    senseless = [{"prompt": f"{q} {i}", "completions": ["b", "c"], "pick": i % 2} for q in QUESTIONS for i in range(2)]
    write_jsonl(tmp_path / "picks.jsonl", senseless)
    everyday = UNRELATED.read_text().splitlines()  # QUESTIONS are all alike: one cluster, never held out
    write_jsonl(tmp_path / "log.jsonl", [{"prompt": q} for q in everyday])
    arguments = [
        "run",
        str(recipe),
        "evaluate.holdout=''",
        "prompts.heldout=0.5",
        "reward.heldout=0.7",
        "--out",
        str(run.folder),
    ]
    assert main(arguments) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "does not beat chance" in said and '"the longest wins"' in said and "--anyway" in said
    assert not run.policy.exists()
    assert main([*arguments, "--anyway"]) == 0
    summary = json.loads(run.summary.read_text())
    assert sum(alarm.startswith("The reward model does not beat") for alarm in summary["alarms"]) == 2
    assert any(
        alarm.startswith("Of the judge from outside: The reward model does not beat") for alarm in summary["alarms"]
    )
    page = run.report.read_text()
    assert page.index("does not beat chance") < page.index("Before and after")

    # without true answers a second reward model, made from the other picks, is the judge from outside
    assert summary["quality"] is None and summary["wins"]["outside"]["judge"] == "referee"
    first, second = (json.loads(run.details(name).read_text())["picks"] for name in ("reward_model", "referee"))
    assert first == {"train": second["heldout"], "heldout": second["train"]}
    assert any(
        (w != load_file(run.reward_model / "model.safetensors")[name]).any()
        for name, w in load_file(run.referee / "model.safetensors").items()
    )


def test_a_finished_reward_model_is_held_against_the_picks_before_it_is_used_again(
    recipe, tmp_path, tiny_llama, capsys
):
    judge = reward_model.RewardModel.fresh(tiny_llama)
    torch.nn.init.normal_(judge.model.score.weight, generator=torch.Generator().manual_seed(0))
    save_model(judge.model, judge.tokenizer, tmp_path / "judge")
    texts = ["aa", "bb", "cc", "dd"]
    groups = [([Message("user", q.replace("report", "state"))], texts) for q in QUESTIONS]
    rewards = reward_model.RewardModel.load(tmp_path / "judge", config.load(recipe)).rewards(groups)
    arguments = ["run", str(recipe), f"score.scorer=reward_model:{tmp_path / 'judge'}", "reward.heldout=1.0"]
    for agrees in (False, True):
        picks = [r.index(max(r) if agrees else min(r)) for r in rewards]
        rows = [{"prompt": m[0].content, "completions": t, "pick": i} for (m, t), i in zip(groups, picks, strict=True)]
        write_jsonl(tmp_path / "picks.jsonl", rows)
        run = Run(tmp_path / f"run {agrees}")
        assert main([*arguments, "--out", str(run.folder)]) == (0 if agrees else 2)
        found = json.loads(run.details("reward_model").read_text())
        assert found["pick_accuracy"]["value"] == agrees and found["picks"] == {"train": 0, "heldout": len(QUESTIONS)}
        assert not run.reward_model.exists()
    assert "does not beat chance" in capsys.readouterr().err
    assert json.loads(run.summary.read_text())["reward_model"]["pick_accuracy"]["value"] == 1


def test_a_prompt_beyond_the_context_window_is_recorded_and_stops_nothing(recipe, tmp_path):
    long = [{"prompt": f"{q} {c * 500}"} for q, c in zip(QUESTIONS[::6], "bcdfg", strict=True)]
    write_jsonl(tmp_path / "log.jsonl", [{"prompt": q} for q in QUESTIONS] + long)
    gold = [{"prompt": q.replace("report", "name"), "answer": "12", "verifier": "number"} for q in QUESTIONS[:6]]
    write_jsonl(tmp_path / "gold.jsonl", [*gold, gold[0] | {"prompt": f"What of {'z' * 500}?"}])
    run = Run(tmp_path / "run")
    assert main(["run", str(recipe), "--anyway", "--out", str(run.folder)]) == 0
    summary = json.loads(run.summary.read_text())
    failed = read_table(run.table("completions_failed"), Failure)
    assert summary["failed"]["sample"] == {"too_long": len(failed)} and len(failed) > 0
    sampled = {c.prompt_id for c in read_table(run.table("completions"), Completion)}
    assert not sampled & {f.prompt_id for f in failed} and "log.jsonl:" in failed[0].detail
    assert any(f"{len(failed)} too_long; completions_failed.parquet" in alarm for alarm in summary["alarms"])
    assert summary["failed"]["evaluate"] == {"too_long": 7 - summary["quality"]["gain"]["n"]} == {"too_long": 1}
    assert [f.reason for f in read_table(run.table("tuned_failed"), Failure)] == ["too_long"]


def test_training_neither_needs_nor_can_open_the_true_answers(recipe, tmp_path, monkeypatch):
    arguments = [str(recipe), "--out"]
    assert main(["run", *arguments, str(tmp_path / "with"), "--anyway"]) == 0
    training = [s for s in pipeline.STAGES if not s.opens_gold and s.name != "summary"]
    assert main(["prompts", *arguments, str(tmp_path / "without")]) == 0, "these avoid its questions"
    hidden = (tmp_path / "gold.jsonl").rename(tmp_path / "elsewhere.jsonl")
    for stage in training:
        assert main([stage.name, *arguments, str(tmp_path / "without")]) == 0
    hidden.rename(tmp_path / "gold.jsonl")
    with_gold, without = (weights(Run(tmp_path / name)) for name in ("with", "without"))
    assert all(torch.equal(with_gold[name], without[name]) for name in with_gold)

    for stage in training:
        peek = pipeline.Stage(stage.name, lambda run, recipe: open(recipe.evaluate.holdout).close(), stage.made)
        monkeypatch.setattr(pipeline, "STAGES", (peek,))
        with pytest.raises(UserError, match="sealed"):
            pipeline.run_stage(Run(tmp_path / "with"), config.load(recipe), peek)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_killed_at_any_moment_the_same_command_ends_with_the_same_tables(recipe, tmp_path, how):
    whole = Run(tmp_path / "whole")
    assert main(["run", str(recipe), "--anyway", "--out", str(whole.folder)]) == 0
    broken = Run(tmp_path / "broken")
    for made in (broken.table("prompts"), broken.table("completions"), broken.reward_model, broken.policy):
        process = bakeoff("run", recipe, "--anyway", "--out", broken.folder)
        while not made.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        process.send_signal(how)
        _, errors = process.communicate()
        if how == signal.SIGINT:
            assert process.returncode == 130 and "the same command goes on" in errors.splitlines()[-1]
    assert main(["run", str(recipe), "--anyway", "--out", str(broken.folder)]) == 0
    for name, record in (("completions", Completion), ("scores", Score), ("tuned", Completion)):
        assert read_table(broken.table(name), record) == read_table(whole.table(name), record)
    assert all(torch.equal(a, weights(broken)[name]) for name, a in weights(whole).items())


def test_a_full_disk_is_one_line_and_the_run_goes_on(recipe, tmp_path):
    def small_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    process = bakeoff("run", recipe, "--anyway", "--out", tmp_path / "run", preexec_fn=small_disk)
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    assert "the disk is full" in errors.splitlines()[-1] and "Traceback" not in errors
    assert main(["run", str(recipe), "--anyway", "--out", str(tmp_path / "run")]) == 0


def test_the_reward_model_learns_from_what_users_said_in_the_logs(recipe, tmp_path):
    told = [{"prompt": q, "response": "aa", "edited": "ccc"} for q in QUESTIONS]
    write_jsonl(tmp_path / "log.jsonl", told)
    for settings, expected in (
        ([], 2 * len(QUESTIONS)),
        (["reward.picks=[]"], len(QUESTIONS)),
        (['prompts.skip=["feedback"]'], len(QUESTIONS)),
    ):
        loaded = config.load(recipe, [*settings, "prompts.heldout=0"])
        run = open_run(tmp_path / f"run{len(list(tmp_path.iterdir()))}", loaded)
        pipeline.check_recipe(loaded)
        pipeline.STAGES[0].work(run, loaded)
        pipeline.STAGES[2].work(run, loaded)
        assert sum(json.loads(run.details("reward_model").read_text())["picks"].values()) == expected


def mistakes(tmp_path: Path, tiny_llama: Path) -> dict[str, tuple[list[str], str]]:
    empty = tmp_path / "empty_model"
    empty.mkdir()
    bare = tmp_path / "no_weights"
    shutil.copytree(tiny_llama, bare)
    (bare / "model.safetensors").unlink()
    write_jsonl(tmp_path / "nothing.jsonl", [{"prompt": ""}, {"prompt": "hm"}])
    write_jsonl(tmp_path / "empty.jsonl", [])
    write_jsonl(tmp_path / "odd.jsonl", [{"prompt": "p", "answer": "not stated", "verifier": "number"}])
    write_jsonl(tmp_path / "bad.jsonl", [{"prompt": "p", "completions": ["a", "b"], "pick": 7}])
    return {
        "recipe": (["nowhere.toml"], "no such recipe"),
        "log": (["prompts.sources=['/nowhere.jsonl']"], "/nowhere.jsonl"),
        "unreadable log": ([f"prompts.sources=['{tmp_path}/nothing.jsonl']"], "not one prompt in 2 rows"),
        "picks": (
            [f"reward.picks=['{tmp_path}/bad.jsonl']"],
            "bad.jsonl:1: pick must be an index from 0 to 1; found 7",
        ),
        "no picks": (["reward.picks=[]"], "no file of testers' picks"),
        "gold": (["evaluate.holdout=/nowhere.jsonl"], "evaluate.holdout: /nowhere.jsonl: no such file"),
        "empty gold": ([f"evaluate.holdout='{tmp_path}/empty.jsonl'"], "empty.jsonl: holds no true answers"),
        "no log": (["prompts.sources=[]"], "prompts.sources: names no log"),
        "setting": (["bake.lerning_rate=1"], "did you mean 'learning_rate'"),
        "method": (["bake.method=magic"], "unknown method 'magic'; known: best_of_n_sft, qrpo, grpo, dpo"),
        "former name": (["bake.method=distil"], "bake.method: 'distil' is now called 'best_of_n_sft'"),
        "dropped method": (["bake.method=bond"], "bake.method: 'bond' was dropped; use 'grpo' or 'best_of_n_sft'"),
        "group of one": (["sample.group_size=1"], "sample.group_size: found 1; give 2 or more"),
        "best of one": (["bake.n=1"], "bake.n: found 1; give 2 or more, or 0"),
        "no share": (["bake.agreement_quantile=0"], "bake.agreement_quantile: found 0; give more than 0"),
        "former setting": (["bake.surest=0.5"], "bake.surest is now bake.agreement_quantile"),
        "engine": (["sample.engine=vlm"], "sample.engine: unknown engine 'vlm'; known: local, vllm"),
        "nothing held out": (["evaluate.holdout=''", "prompts.heldout=0"], "evaluate.holdout: nothing to evaluate"),
        "too few held out": (
            ["evaluate.holdout=''", "prompts.heldout=0.001"],
            "prompts.heldout: 0 prompts are held out, 1 needed",
        ),
        "true answer": ([f"evaluate.holdout={tmp_path}/odd.jsonl"], "odd.jsonl:1: the answer 'not stated' must hold"),
        "no temperature": (["sample.temperature=0"], "sample.temperature: at 0 all tries are alike"),
        "no samples": (["evaluate.samples=0"], "evaluate.samples: found 0; give 1 or more"),
        "precision": (["dtype=float16"], "dtype: unknown precision 'float16'; known: auto, bfloat16, float32"),
        "device": (["device=gpu"], "device: "),
        "no such device": (["device=cuda"], "device: "),
        "few picks": (["reward.heldout=0.1"], "held-out picks, too few to tell"),
        "empty model": ([f"model={empty}", "reward.heldout=0.9"], "no config.json"),
        "no weights": ([f"model={bare}", "reward.heldout=0.9"], "cannot be loaded"),
    }


@pytest.mark.parametrize(
    "what",
    [
        "recipe",
        "log",
        "unreadable log",
        "picks",
        "no picks",
        "gold",
        "empty gold",
        "no log",
        "setting",
        "method",
        "former name",
        "dropped method",
        "group of one",
        "best of one",
        "no share",
        "former setting",
        "engine",
        "nothing held out",
        "too few held out",
        "true answer",
        "no temperature",
        "no samples",
        "precision",
        "device",
        pytest.param("no such device", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="it is there")),
        "few picks",
        "empty model",
        "no weights",
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(recipe, tmp_path, tiny_llama, capsys, what):
    arguments, words = mistakes(tmp_path, tiny_llama)[what]
    if what != "recipe":
        arguments = [str(recipe), *arguments]
    assert main(["run", *arguments, "--out", str(tmp_path / "run")]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("bakeoff: ") and words in last


def test_a_stage_alone_refuses_the_same_mistakes_and_places_that_are_no_folder(recipe, tmp_path, capsys):
    assert main(["bake", str(recipe), "bake.method=magic", "--out", str(tmp_path / "run")]) == 2
    assert "bake.method: unknown method 'magic'" in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert main(["run", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "no such recipe" in capsys.readouterr().err
    assert main(["run", str(recipe), "--out", str(recipe)]) == 2
    assert "is a file; --out names a folder" in capsys.readouterr().err


def test_adapters_without_their_package_are_refused_before_any_work(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setattr("bakeoff.models.load.LORA_ABOVE", 10)  # above so many weights adapters are the default
    for settings in (["lora=4"], ["lora=-1"]):
        assert main(["run", str(recipe), *settings, "--out", str(tmp_path / "run")]) == 2
        assert "pip install 'bakeoff[lora]'" in capsys.readouterr().err
    assert not (tmp_path / "run" / "prompts.parquet").exists()


def test_a_stage_says_what_must_come_first(recipe, tmp_path, capsys):
    assert main(["bake", str(recipe), "--out", str(tmp_path / "run")]) == 2
    assert "first run: bakeoff prompts" in capsys.readouterr().err


def test_settings_may_stand_before_and_behind_options(recipe, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["prompts", str(recipe), "seed=3", "--out", str(out), "prompts.heldout=0.5", "bake.epochs=1"]) == 0
    made = tomllib.loads(Run(out).config.read_text())
    assert (made["seed"], made["prompts"]["heldout"], made["bake"]["epochs"]) == (3, 0.5, 1)
    with pytest.raises(SystemExit) as stopped:
        main(["run", str(recipe), "--anyway", "--out", str(out), "--sed=4"])
    assert stopped.value.code == 2 and "--sed=4" in capsys.readouterr().err


def test_output_that_nobody_reads_ends_the_command_quietly(tmp_path):
    write_jsonl(tmp_path / "log.jsonl", [{"prompt": q} for q in QUESTIONS])
    process = bakeoff("prompts", "log.jsonl", "--out", "out", cwd=tmp_path)
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait() == 141 and "Traceback" not in said and "Broken" not in said, said


def test_help_is_quick_because_it_does_not_import_torch():
    code = "import sys, bakeoff.cli; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0
