"""Studies: wrong labels are wrong, nested and as many as said; every arm of a study is baked and measured, once."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write_jsonl

from bakeoff.data.stage import prompts as clean
from bakeoff.errors import UserError
from bakeoff.models import optimizer
from bakeoff.records import Completion, Prompt, read_table
from bakeoff.run import Run, open_run, read_json, write_json
from bakeoff.scoring.verifiers import VERIFIERS
from bakeoff.settings import Bake
from bakeoff.training.methods import best_weights
from bakeoff.training.stage import teaching

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import pictures  # noqa: E402
import results  # noqa: E402
import studies  # noqa: E402
import study  # noqa: E402
import study_dirt  # noqa: E402
import study_labels  # noqa: E402
import study_multitask  # noqa: E402
import study_peers  # noqa: E402
import study_picks  # noqa: E402
import study_prompts  # noqa: E402
import study_rounds  # noqa: E402
import study_sizes  # noqa: E402
import study_surest  # noqa: E402
import study_tatqa  # noqa: E402
import study_tries  # noqa: E402

from bakeoff import config  # noqa: E402

TRUTH = {f"{i:02d}": (f"${i + 1}.5 million", "number") for i in range(20)} | {
    f"t{i:02d}": (f"{i + 3}%", "number") for i in range(20)
}


def test_as_many_labels_are_wrong_as_said_and_the_same_ones_at_every_larger_share():
    labels = {share: studies.wrong_labels(TRUTH, share, seed=0) for share in (0.0, 0.1, 0.4, 1.0)}
    wrong = {
        share: {k for k, label in made.items() if not VERIFIERS[TRUTH[k][1]](label, TRUTH[k][0])}
        for share, made in labels.items()
    }
    assert {share: len(keys) for share, keys in wrong.items()} == {0.0: 0, 0.1: 4, 0.4: 16, 1.0: 40}
    assert wrong[0.1] < wrong[0.4] and all(labels[0.1][k] == labels[0.4][k] for k in wrong[0.1])
    assert all(label.endswith("%") == TRUTH[k][0].endswith("%") for k, label in labels[1.0].items())


def test_the_maker_of_the_log_knows_the_answers_to_its_cleaned_prompts(tmp_path):
    recipe = config.load(studies.RECIPE)
    run = open_run(tmp_path / "run", recipe)
    clean(run, recipe)
    prompts = read_table(run.table("prompts"), Prompt)
    truth = studies.filings_answers(prompts)
    assert len(truth) > 0.95 * len(prompts)
    by_id = {p.id: p.messages[-1].content for p in prompts}
    read_off = [answer.strip("-$").split()[0] in by_id[key] for key, (answer, _) in truth.items()]
    assert all(read_off)


@pytest.fixture
def roomy_llama(tmp_path, tiny_llama):
    """A tiny model whose context window holds a whole filing, byte by byte."""
    shutil.copytree(tiny_llama, folder := tmp_path / "roomy")
    settings = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def of(tmp_path, roomy_llama):
    gold = tmp_path / "gold.jsonl"
    gold.write_text("".join((studies.FILINGS / "gold.jsonl").read_text().splitlines(keepends=True)[:3]))
    settings = [f"model={roomy_llama}", "dtype=float32", "sample.prompts=6", "sample.group_size=4", "bake.batch_size=2"]
    settings += [
        "sample.max_tokens=8",
        'sample.stop=["a", "e", "i", "o"]',
        'score.scorer="majority"',
        "reward.picks=[]",
    ]
    return studies.base(tmp_path / "out", 0, [*settings, f'evaluate.holdout="{gold}"'])


def test_every_arm_is_baked_and_measured_once(of, capsys):
    found = study_labels.arms(of)
    labels = ["clean", "dirty10", "dirty20", "dirty40"]
    longer = [arm for name in labels for arm in (name, f"{name}_longer")]
    assert list(found) == ["reference", "tao", "tao_all", "control", *longer, "dirty60"]
    assert all(values.shape == (3,) for values in found.values())
    baked = list(of.run.folder.parent.glob("base-0-*/policy/model.safetensors"))
    before = [file.stat().st_mtime_ns for file in baked]
    assert len(baked) == 12 and len({file.read_bytes() for file in baked}) >= 5
    groups = {name: read_json(of.arm(name).details("bake"))["groups"] for name in ("surest-quarter", "labels-control")}
    assert groups["surest-quarter"] == groups["labels-control"]
    steps = {name: len(list(of.arm(f"labels-{name}").steps("bake"))) for name in ("clean", "clean_longer")}
    assert steps["clean_longer"] == study_labels.PASSES * steps["clean"]
    assert {k: v.tolist() for k, v in study_labels.arms(of).items()} == {k: v.tolist() for k, v in found.items()}
    assert before == [file.stat().st_mtime_ns for file in baked]
    other = dataclasses.replace(of.recipe.bake, learning_rate=3e-5)
    with pytest.raises(UserError, match=r"whole: was made \(at .*\) from other bake; remove it"):
        studies.whole(of.baking(other))
    studies.again(of, "apart", [], "prompts")
    of.run.table("scores").write_bytes(b"another base")
    with pytest.raises(UserError, match=r"apart: was made \(at .*\) from other scores; remove it"):
        studies.again(of, "apart", [], "prompts")
    with pytest.raises(UserError, match="from other scores; remove it"):
        studies.whole(of)


def test_a_labelled_group_teaches_the_label_and_nothing_else(of):
    prompts, *_ = studies.tables(of.run)
    truth = studies.filings_answers([p for p in prompts if p.split == "train"])
    completions, scores = studies.labelled(of, {key: answer for key, (answer, _) in truth.items()})
    groups, counts = teaching(completions, scores, of.recipe)
    assert counts == {"trained": len(groups)} and 4 <= len(groups) <= 6
    assert all(best_weights(group, 16).tolist() == [1.0, 0.0] for group in groups)
    assert [completions[2 * i].text for i in range(len(groups))] == [truth[g.prompt_id][0] for g in groups]


def test_differences_are_paired_by_prompt_over_seeds():
    found = {"a": [np.array([1.0, 0.5]), np.array([0.5, 0.0])], "b": [np.array([0.5, 0.0]), np.array([0.0, -0.5])]}
    rows = {row["name"]: row for row in studies.measured("s", found, [("a", "b")])}
    assert rows["s.a"]["value"] == 0.5 and rows["s.a_minus_b"]["n"] == 2
    assert [rows["s.a_minus_b"][key] for key in ("value", "low", "high")] == [0.5, 0.5, 0.5]
    assert rows["s.a"]["seeds"] == [0.75, 0.25] and rows["s.a_minus_b"]["seeds"] == [0.5, 0.5]


def test_real_filings_are_baked_by_the_recipe_from_all_groups_and_from_labels(tmp_path, tiny_llama):
    rows = [
        {"prompt": f"Revenue was ${i} million in the year.\n\nQuestion: What?", "answer": f"${i}", "verifier": "number"}
        for i in range(36)
    ]
    settings = [f"model={tiny_llama}", "dtype=float32", "sample.prompts=6", "sample.group_size=4", "bake.batch_size=2"]
    settings += ["sample.max_tokens=8", 'sample.stop=["a", "e", "i", "o"]', "evaluate.samples=2", "bake.epochs=2"]
    gap, found = study_tatqa.measured((rows[:16], rows[16:28], rows[28:32]), 0, tmp_path, settings)
    assert gap["n"] == 4 and all(values.shape == (4,) for values in found.values())
    assert list(found) == [*study_tatqa.POLICIES, "best_of_n", "some_right", "all", "clean", "clean_longer"]
    quality = read_json(tmp_path / "tatqa-0" / "evaluation.json")["quality"]
    told = {"tuned": "tuned_at_1", "control": "control_at_1", "best_of_n": "reference_best_of_n"}
    assert all(found[name].mean() == pytest.approx(quality[figure]["value"]) for name, figure in told.items())
    assert found["some_right"].mean() == quality["oracle"][-1]["value"]
    runs = [Run(tmp_path / f"tatqa-0{arm}") for arm in ("", "-whole", "-clean", "-clean_longer")]
    groups = [read_json(run.details("bake"))["groups"]["trained"] for run in runs]
    assert groups[2] == groups[3] and len(runs[3].steps("bake")) == study_tatqa.PASSES * len(runs[2].steps("bake"))
    assert groups[0] == max(1, round(groups[1] / 4)) and groups[2] == 6
    picks = [json.loads(line) for line in (tmp_path / "tatqa-0-data" / "picks.jsonl").read_text().splitlines()]
    assert {row["prompt"] for row in picks} == {row["prompt"] for row in rows[:16]}


def test_the_simulated_tester_picks_in_a_file_of_groups(tmp_path, monkeypatch):
    sys.path.insert(0, str(studies.FILINGS))
    from make import log_cases
    from make import main as make

    case = log_cases(studies.DATA_SEED)[0]
    row = {"messages": [{"role": "user", "content": case.prompt}], "completions": ["I cannot tell.", case.answer]}
    write_jsonl(tmp_path / "ask.jsonl", [row] * 200 + [row | {"messages": [{"role": "user", "content": "What?"}]}])
    words = ["make.py", "--pick", str(tmp_path / "ask.jsonl"), str(tmp_path / "picks.jsonl")]
    monkeypatch.setattr(sys, "argv", words)
    make()
    picks = [json.loads(line)["pick"] for line in (tmp_path / "picks.jsonl").read_text().splitlines()]
    assert len(picks) == 200 and 160 < sum(picks) < 195  # one in ten is a slip


def test_an_unknown_study_is_one_line(capsys):
    assert study.main(["nothing"]) == 2
    error = capsys.readouterr().err
    assert "unknown study 'nothing'" in error and "labels" in error and error.count("\n") == 1


def test_contexts_stay_in_one_part_and_a_missing_folder_is_one_line(tmp_path, capsys, monkeypatch):
    def prompt(i):
        table = f"Revenue | {i}\n\n" if i % 2 else ""
        return f"{table}Text {i // 2} {'is long ' * 9}.\n\nQuestion: {i}?"

    questions = [{"id": str(i), "prompt": prompt(i)} for i in range(60)]
    write_jsonl(tmp_path / "prompts.jsonl", questions)
    write_jsonl(tmp_path / "gold.jsonl", [{"id": q["id"], "gold": "$(9.8) million"} for q in questions])
    parts = study_tatqa.dealt(study_tatqa.rows_of(str(tmp_path)))
    contexts = [{row["prompt"].split("\n")[-3] for row in part} for part in parts]
    assert sum(map(len, parts)) == 60 and sum(map(len, contexts)) == len(set().union(*contexts)) == 30
    assert min(map(len, parts)) > 4
    monkeypatch.setenv(study_tatqa.FOLDER, str(tmp_path / "nowhere"))
    assert study.main(["tatqa", "--seeds", "0", "--out", str(tmp_path), "bake.n=4"]) == 2
    assert "BAKEOFF_TATQA" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "verifier"),
    [("5,687", "number"), ("$(9.8) million", "number"), ("2019", "number"), ("Ghana", "contains")],
)
def test_amounts_are_compared_as_numbers(answer, verifier):
    assert study_tatqa.verifier(answer) == verifier and VERIFIERS[verifier](f"It was {answer}.", answer)


def test_a_dirty_log_spoils_as_many_lines_as_said_and_leaves_the_others(tmp_path):
    clean, dirty = (study_dirt.lines(0, share) for share in (0.0, study_dirt.DIRTY))
    assert len(clean) == len(set(clean)) == len(dirty) == study_dirt.LINES
    changed = [place for place, (a, b) in enumerate(zip(clean, dirty, strict=True)) if a != b]
    assert 0.27 < len(changed) / len(clean) <= 0.30  # a typo may find no word to spoil
    gold = (studies.FILINGS / "gold.jsonl").read_text()
    assert not [line for line in clean if line[12:-2] in gold]


def test_two_tasks_are_baked_together_and_alone(tmp_path, tiny_llama, monkeypatch):
    recipe = study_multitask.RECIPE.read_text().replace("messages/grounded.py:grounded", "short.py:short")
    (tmp_path / "short.py").write_text("def short(completion):\n    return -len(completion)\n")
    for name in ("filings", "messages"):  # the last turns of a few rows, as much as a tiny model can read
        (tmp_path / name).mkdir()
        for file, size in (("gold", 3), ("log", 40)):
            rows = (studies.FILINGS.with_name(name) / f"{file}.jsonl").read_text("utf-8").splitlines()[:size]
            turns = [
                json.loads(row) for row in rows if row.endswith("}") and ("messages" in row) == (name == "messages")
            ]
            last = [t | {"messages": t["messages"][-1:]} if "messages" in t else t for t in turns]
            write_jsonl(tmp_path / name / f"{file}.jsonl", last)
    path = tmp_path / "tasks.toml"
    path.write_text(recipe.replace("../examples/", ""))
    monkeypatch.setattr(study_multitask, "RECIPE", path)
    settings = [f"model={tiny_llama}", "dtype=float32", "sample.prompts=14", "sample.group_size=4", "bake.batch_size=7"]
    settings += [
        "sample.max_tokens=24",
        'sample.stop=["a", "e", "0", "T"]',
        f'score.scorer="{tmp_path / "short.py"}:short"',
    ]
    of = study_multitask.both(tmp_path / "out", 0, [*settings, "reward.picks=[]"])
    found = study_multitask.arms(of)
    names = ["reference", "alone", "together"]
    assert sorted(found) == sorted(f"{task}_{arm}" for task in ("filings", "messages") for arm in names)
    assert all(values.shape == (3,) for values in found.values())
    steps = {name: len(list(of.arm(name).steps("bake"))) for name in ("filings", "messages", "together")}
    assert steps == {"filings": 2, "messages": 2, "together": 2}


def test_the_task_that_loses_most_is_told():
    row = study_multitask.worst({"a": {"value": -0.1, "low": -0.2}, "b": {"value": -0.02, "low": -0.5}})
    assert (row["value"], row["name"]) == (-0.1, "multitask.worst_task_minus_alone")


def test_tries_are_drawn_once_and_shared(of):
    found = study_tries.arms(of, (2, 4, 6, 8), prompts=5)
    assert list(found) == ["reference", "n2", "n4", "n6", "n8"] and all(v.shape == (3,) for v in found.values())
    drawn = of.arm("tries-of-8")
    assert {c.index for c in studies.tables(drawn)[1]} == set(range(8)) and not drawn.details("bake").exists()
    rows, scores = study_tries.first(drawn, 6)
    assert {c.index for c in rows} == set(range(6)) and [s.completion_id for s in scores] == [c.id for c in rows]


def test_few_prompts_are_baked_for_as_many_steps_as_many(of):
    found = study_prompts.arms(of, (5, 6))
    assert list(found) == ["reference", "p5", "p6"] and of.arm("prompts-5").details("bake").exists()
    few, more = ({c.prompt_id for c in study_prompts.some(of, n)[0]} for n in (3, 5))
    assert len(few) == 3 and few < more
    other = dataclasses.replace(of, recipe=dataclasses.replace(of.recipe, seed=1))
    assert {c.prompt_id for c in study_prompts.some(other, 5)[0]} != more
    made = [study_prompts.in_as_many_steps(Bake(), n, 320) for n in study_prompts.PROMPTS]
    assert [(b.batch_size, b.epochs) for b in made] == [(20, 20), (20, 10), (16, 4), (16, 2), (16, 1)]


def test_the_surest_groups_are_a_part_of_all(of, monkeypatch):
    monkeypatch.setattr(study_prompts, "baked", lambda of, size: studies.whole(of))  # a quarter of six may be cut short
    found = study_surest.arms(of)
    assert list(found) == ["reference", "all", "any_quarter", "half", "quarter"]
    groups = [read_json(of.arm(name).details("bake"))["groups"] for name in ("whole", "surest-half", "surest-quarter")]
    trained = [g["trained"] for g in groups]
    assert trained[1:] == [max(1, round(trained[0] / part)) for part in (2, 4)]
    assert groups[2].get("unsure", 0) == trained[0] - trained[2]
    right = {name: study_surest.taught(study_surest.in_as_many_steps(of, name))[0] for name in study_surest.SHARES}
    right["all"] = study_surest.taught(of)[0]
    assert {name: len(values) for name, values in right.items()} == dict(
        zip(("half", "quarter", "all"), (*trained[1:], trained[0]), strict=True)
    )
    assert not right["all"].any()  # a random model knows nothing


def test_the_quarter_is_what_the_recipe_of_the_demo_bakes(of):
    settings = study_surest.in_as_many_steps(of, "quarter").recipe.bake
    recipe = config.load(studies.RECIPE).bake
    assert (settings.agreement_quantile, settings.epochs) == (recipe.agreement_quantile, recipe.epochs)


def test_tries_in_two_rounds_or_shared_by_strategies(of, monkeypatch):
    plain = '[{name="plain"}, {name="steps", instruction="Think."}]'
    rounds = ["bake.rounds=2", "sample.prompts=3"]
    ways = {"two_rounds": rounds, "steps": [f"sample.variants={plain}"]}
    monkeypatch.setattr(study_rounds, "ways", lambda of: ways)
    found = study_rounds.arms(of)
    assert list(found) == ["reference", "one_round", *ways] and all(v.shape == (3,) for v in found.values())
    assert {c.strategy for c in studies.tables(of.arm("rounds-steps"))[1]} == {"plain", "steps"}
    assert of.arm("rounds-two_rounds").round("bake", 1).details("validation").exists()


def test_reward_models_of_fewer_picks_judge_the_same_completions(of, tmp_path):
    picks = [json.loads(line) for line in (studies.FILINGS / "picks.jsonl").read_text("utf-8").splitlines()[:30]]
    file = write_jsonl(tmp_path / "picks.jsonl", picks)
    recipe = dataclasses.replace(of.recipe, reward=dataclasses.replace(of.recipe.reward, picks=[str(file)]))
    recipe = dataclasses.replace(recipe, score=dataclasses.replace(recipe.score, scorer="reward_model"))
    base = studies.Base(of.run, recipe)
    found = study_picks.arms(base, (20, 34))
    assert list(found) == ["reference", "k20", "k30", "k34"]
    more = (of.arm("picks-34").folder / "some.jsonl").read_text("utf-8").splitlines()
    asked = [json.loads(line)["prompt"] for line in more]
    shown = [json.loads(line)["prompt"] for line in (studies.FILINGS / "picks.jsonl").read_text("utf-8").splitlines()]
    assert len(set(asked)) == 34 and asked[30:] == shown[30:34]
    few, all_of_them = (studies.tables(run) for run in (of.arm("picks-20"), of.run))
    assert few[1] == all_of_them[1]
    assert [s.reward for s in few[2]] != [s.reward for s in all_of_them[2]]
    assert of.arm("whole").details("bake").exists()


def test_the_pictures_in_the_docs_are_those_of_the_results():
    made = pictures.pictures(results.read("studies"))
    shown = {path.stem.removeprefix("study_"): path.read_text("utf-8") for path in results.RESULTS.glob("study_*.svg")}
    assert shown == made, "make them again: python benchmarks/pictures.py"
    text = (ROOT / "docs" / "studies.md").read_text("utf-8")
    assert all(f"results/study_{name}.svg" in text for name in made)


def test_a_study_over_numbers_is_a_line_and_one_over_ways_dots():
    rows = [{"name": f"tries.n{n}", "value": n / 100, "low": 0.0, "high": 0.5, "n": 9} for n in (2, 16, 4)]
    rows += [{"name": "tries.n16_minus_n2", "value": 0.14, "low": 0.0, "high": 0.2, "n": 9}]
    rows += [{"name": "dirt.clean", "value": 0.6, "low": 0.5, "high": 0.7, "n": 9}]
    made = pictures.pictures(rows)
    assert list(made) == ["tries", "dirt"] and ">16</text>" in made["tries"] and ">clean</text>" in made["dirt"]
    assert all(text.startswith("<svg") and "minus" not in text for text in made.values())


def test_sizes_and_seconds_are_lines_of_each_side():
    def row(name, value, low=0.0):
        return {"name": name, "value": value, "low": low, "high": None if low is None else 1.0, "n": 9}

    sizes = [("1m", 1_040_000), ("135m", 134_515_008)]
    rows = [row(f"sizes.{name}.parameters.seed0", count, None) for name, count in sizes]
    figures = ("reference_at_1", "reference_best_of_n", "tuned_at_1")
    rows += [row(f"sizes.{name}.{figure}.seed0", 0.5) for name, _ in sizes for figure in figures]
    rows += [row("peers.reference.seed0", 0.25), row("peers.target.seed0", 0.5)]
    rows += [row("peers.bakeoff.p40.seed0", 0.5), row("peers.bakeoff.p40_seconds.seed0", 100.0, None)]
    rows += [row("peers.trl.rloo:1e-4:1.after200.seed0", 0.3), row("peers.trl.rloo:1e-4:1.after400.seed0", 0.4)]
    rows += [row(f"peers.trl.grpo:3e-5:4:mask.after{seconds}.seed0", 0.3) for seconds in (200, 400)]
    rows += [row("peers.trl.rloo:1e-4:1.not_reached_seconds.seed0", 400.0, None)]
    lucky = [row(r["name"].replace("seed0", "seed1"), r["value"], r["low"]) for r in rows if "peers" in r["name"]]
    lucky = [r | {"value": 9 * r["value"]} if "reached" in r["name"] else r for r in lucky]
    made = pictures.pictures(rows)
    assert made["sizes"] == pictures.pictures(rows[::-1])["sizes"]
    assert made == pictures.pictures(rows + lucky) and "(seed 0)" in made["peers"]  # what says least for us is shown
    alone = [r for r in rows if ".trl." not in r["name"]]  # ours never reached the target, so no trainer was started
    assert pictures.pictures(alone)["peers"].count("<path") == 3
    assert list(made) == ["sizes", "peers"]
    assert ">1</text>" in made["sizes"] and ">134</text>" in made["sizes"] and made["sizes"].count("<path") == 3
    assert "RLOO 1e-4</text>" in made["peers"] and "GRPO 3e-5, 4 a step, masked" in made["peers"]
    assert made["peers"].count("<path") == 5


def test_a_model_of_the_ladder_learns_its_cases_and_goes_on_after_a_kill(of, tmp_path, monkeypatch):
    monkeypatch.setattr(study_sizes, "LADDER", {"tiny": (32, 2, 2)})
    monkeypatch.setattr(study_sizes, "STEPS", 12)
    monkeypatch.setattr(study_sizes, "BATCH", 4)
    whole = study_sizes.trained(tmp_path / "whole", "tiny", 0)
    losses = [line["loss"] for line in Run(tmp_path / "whole").steps("train")]
    assert len(losses) == 12 and losses[-1] < losses[0] - 0.2

    real, seen = study_sizes.lessons, []

    def killed(key, count):
        seen.append(key)
        if key == "0 6":
            raise KeyboardInterrupt
        return real(key, count)

    monkeypatch.setattr(study_sizes, "lessons", killed)
    monkeypatch.setattr(optimizer, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        study_sizes.trained(tmp_path / "halves", "tiny", 0)
    monkeypatch.setattr(study_sizes, "lessons", real)
    halves = study_sizes.trained(tmp_path / "halves", "tiny", 0)
    assert (halves / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()

    monkeypatch.setenv("BAKEOFF_SIZES", "135m tiny")
    (tmp_path / "whole").rename(tmp_path / "sizes-0-tiny-start")
    whole = tmp_path / "sizes-0-tiny-start" / "model"
    assert list(study_sizes.sizes(tmp_path, 0, "demo")) == [("135m", "demo"), ("tiny", str(whole))]
    monkeypatch.setenv("BAKEOFF_SIZES", "huge")
    with pytest.raises(UserError, match="huge"):
        list(study_sizes.sizes(tmp_path, 0, "demo"))

    monkeypatch.setattr(study_sizes, "PICKS", 12)
    changed = {"sample": {"max_tokens": 24}, "prompts": {"skip": []}}
    parts = {name: dataclasses.replace(getattr(of.recipe, name), **change) for name, change in changed.items()}
    base = studies.Base(of.run, dataclasses.replace(of.recipe, **parts))
    found = {row["name"]: row for row in study_sizes.measured(base, "tiny", str(whole))}
    assert found["sizes.tiny.parameters.seed0"]["value"] < 200_000
    assert {name.split(".")[2] for name in found} == {"parameters", *study_sizes.FIGURES}
    picks = [
        json.loads(line) for line in (of.arm("sizes-tiny-picks").folder / "picks.jsonl").read_text("utf-8").splitlines()
    ]
    shown = [json.loads(line)["prompt"] for line in (studies.FILINGS / "picks.jsonl").read_text("utf-8").splitlines()]
    assert [row["prompt"] for row in picks] == shown[:12] and all(len(row["completions"]) == 8 for row in picks)
    assert of.arm("sizes-tiny").details("reward_model").exists()
    closed = read_json(of.arm("sizes-tiny").details("evaluation"))["quality"]["gap_closed"]
    assert (
        found["sizes.tiny.gap_closed.seed0"]["value"] == closed["value"]
    )  # not that of the reward model's held-out picks


def test_the_cases_of_the_ladder_follow_from_their_key():
    made = study_sizes.lessons("x", 300)
    known = {case.prompt: case for case in made}
    assert len(known) > 250 and study_sizes.lessons("x", 3) == made[:3] and study_sizes.lessons("y", 3) != made[:3]


def test_the_first_budget_that_reaches_the_goal_ends_the_time_of_both_sides(of, tiny_llama, monkeypatch):
    monkeypatch.setattr(study_peers, "PARTS", (1,))
    monkeypatch.setattr(study_peers, "AGAIN", (0, 2, 5))
    assert set(study_peers.best_of_n(of)) <= {0.0, 1.0}
    tries = read_table(of.arm("peers-reference").table("reference"), Completion)
    assert len(tries) == 3 * study_peers.TRIES
    bakes_BP, seconds = study_peers.ours(of, 6)
    runs = [of.arm(f"peers-p6-{more}") for more in study_peers.AGAIN]
    logged = [r["seconds"] for run in runs for r in run.logged() if r["stage"] in study_peers.TIMED and "seconds" in r]
    assert bakes_BP.shape == (3, 3) and len(logged) == 9 and seconds == pytest.approx(sum(logged) / 3)
    drawn = [studies.tables(run)[1] for run in runs]
    asked = [{c.prompt_id for c in rows} for rows in drawn]
    assert all(len(ids) == 6 for ids in asked) and asked[0] != asked[1] != asked[2]

    folder = of.arm("peers-grpo-1e-4-1").folder
    for step in (3, 6):
        shutil.copytree(tiny_llama, folder / f"step-{step}")
    long = [2 * study_peers.MOST * seconds, 3 * study_peers.MOST * seconds]
    rows = [{"step": 3, "seconds": long[0], "reward": 0.1}, {"step": 6, "seconds": long[1], "reward": 0.2}]
    write_jsonl(folder / "checkpoints.jsonl", rows)
    python = "no interpreter is started: the time is over"
    every = study_peers.EVERY * seconds
    write_json(folder / "job.json", study_peers._job(of, "grpo:1e-4:1"))
    first, *more = study_peers.theirs(of, python, "grpo:1e-4:1", 2.0, (every, long[0]))
    assert first[1] == long[0] and not more and not (folder / "step-3").exists() and (folder / "step-6").exists()
    named = {row["name"]: row["value"] for row in study_peers.compared(of, python, ["grpo:1e-4:1"])}
    # a tiny model is never right, so both sides are there at once
    assert named["peers.target.seed0"] == 0 and named["peers.bakeoff.p6_seconds.seed0"] == pytest.approx(
        seconds, abs=0.1
    )
    assert named["time_to_quality_vs_trl.seed0"] == pytest.approx(long[0] / seconds, abs=0.01)
    assert named["peers.bakeoff.p6_reached.seed0"] == 1.0

    assert len(list(study_peers.theirs(of, python, "grpo:1e-4:1", 2.0, (2 * every, long[0])))) == 1
    write_json(folder / "job.json", study_peers._job(of, "grpo:1e-4:1:mask"))
    with pytest.raises(OSError, match="no interpreter"):  # another job than what is there
        list(study_peers.theirs(of, python, "grpo:1e-4:1", 2.0, (every, long[0])))
    assert not (folder / "checkpoints.jsonl").exists() and not (folder / "step-6").exists()
    runs[1].details("bake").unlink()  # killed: its seconds are not known, so it is made anew
    monkeypatch.setattr(study_peers, "best_of_n", lambda of: np.full(3, 2.0))  # beyond reach: no trainer is asked
    *_, last = study_peers.compared(of, python, ["grpo:1e-4:1"])
    assert last == {"name": "peers.bakeoff.p6_reached.seed0", "value": 0.0}
    assert len([r for r in runs[1].logged() if r["stage"] == "sample" and "seconds" in r]) == 1


def test_the_interval_of_the_ratio_holds_the_prompts_on_which_either_side_falls_short():
    goal_P, right_P = np.array([1.0, 0.0] * 50), np.array([1.0, 0.25] * 50)
    slow = [(0.0, np.zeros(100)), (100.0, np.zeros(100))]
    fast = [(0.0, np.zeros(100)), (40.0, np.array([1.0, 0.0] * 50)), (90.0, np.array([1.0, 0.25] * 50))]
    found = study_peers.ratio([slow, fast], goal_P, right_P, 10.0)
    assert [found[key] for key in ("value", "low", "high", "n")] == [4.0, 4.0, 4.0, 100]
    few = study_peers.ratio([slow, fast], goal_P, np.linspace(0, 1, 100), 10.0)  # ours is as good on half the resamples
    assert few["low"] == 2.0 and few["high"] == 4.0
    rows = [{"name": f"{study_peers.RATIO}.seed{seed}", "value": float(seed)} for seed in (5, 3)]
    assert study_peers.worst(rows, 2) == {"name": study_peers.RATIO, "value": 3.0}
    assert study_peers.worst(rows, 3) == {"name": study_peers.RATIO, "value": None}


@pytest.mark.parametrize("goal, seconds", [(0.25, 5.0), (0.5, 10.0), (0.9, 18.0), (1.1, None), (0.0, 0.0)])
def test_the_time_of_a_goal_lies_on_the_line_between_two_checkpoints(goal, seconds):
    curve = [(0.0, 0.0), (10.0, 0.5), (20.0, 1.0), (30.0, 0.2)]
    assert study_peers.reached(curve, goal) == (seconds if seconds is None else pytest.approx(seconds))
