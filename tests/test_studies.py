"""Studies: wrong labels are wrong, nested and as many as said; every arm of a study is baked and measured, once."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write_jsonl

from bakeoff import config
from bakeoff.data.stage import prompts as clean
from bakeoff.errors import UserError
from bakeoff.records import Completion, Prompt, read_table
from bakeoff.run import Run, open_run, read_json, write_json
from bakeoff.scoring.verifiers import VERIFIERS
from bakeoff.training.methods import best_weights
from bakeoff.training.stage import teaching
from benchmarks import answers, pictures, results, study
from benchmarks.studies import dirt, labels, peers, surest, tatqa

ROOT = Path(__file__).parents[1]
STUDIES = [path.stem for path in study.FOLDER.glob("*.toml")]

TRUTH = {f"{i:02d}": (f"${i + 1}.5 million", "number") for i in range(20)} | {
    f"t{i:02d}": (f"{i + 3}%", "number") for i in range(20)
}


def test_as_many_labels_are_wrong_as_said_and_the_same_ones_at_every_larger_share():
    told = {share: labels.labels(TRUTH, share, seed=0) for share in (0.0, 0.1, 0.4, 1.0)}
    wrong = {
        share: {k for k, label in made.items() if not VERIFIERS[TRUTH[k][1]](label, TRUTH[k][0])}
        for share, made in told.items()
    }
    assert {share: len(keys) for share, keys in wrong.items()} == {0.0: 0, 0.1: 4, 0.4: 16, 1.0: 40}
    assert wrong[0.1] < wrong[0.4] and all(told[0.1][k] == told[0.4][k] for k in wrong[0.1])
    assert all(label.endswith("%") == TRUTH[k][0].endswith("%") for k, label in told[1.0].items())


def test_the_maker_of_the_log_knows_the_answers_to_its_cleaned_prompts(tmp_path):
    recipe = config.load(ROOT / "recipes" / "filings.toml")
    run = open_run(tmp_path / "run", recipe)
    clean(run, recipe)
    prompts = read_table(run.table("prompts"), Prompt)
    truth = answers.of_the_maker(prompts)
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
def settings(tmp_path, roomy_llama):
    """The demo's recipe on a tiny model that always knows an answer, and three prompts with a true one."""
    gold = tmp_path / "gold.jsonl"
    gold.write_text("".join((answers.FILINGS / "gold.jsonl").read_text().splitlines(keepends=True)[:3]))
    return [
        *(f"model={roomy_llama}", "dtype=float32", "sample.prompts=6", "sample.group_size=4", "bake.batch_size=2"),
        *("sample.max_tokens=8", 'sample.stop=["a", "e", "i", "o"]', "score.scorer=majority", "reward.picks=[]"),
        f'evaluate.holdout="{gold}"',
    ]


@pytest.fixture
def of(tmp_path, settings):
    return study.base(study.Study("demo"), 0, tmp_path / "out", settings)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_names_arms_functions_and_settings_that_there_are(name, monkeypatch):
    monkeypatch.setenv("BAKEOFF_GEMMA", "smollm2-135m")
    made = study.read(name)
    for function in filter(None, (made.rows, made.data, *(arm.make for arm in made.arms.values()))):
        assert callable(made.function(function))
    folders = {other: lambda: Run(ROOT) for other in ("root", "demo", "base", *made.arms)}
    recipe = ROOT / made.recipe
    config.load(recipe, study.filled(made.settings, folders))
    known = ["base"]
    for arm, own in made.arms.items():
        config.load(recipe, study.filled([*made.settings, *own.settings], folders))
        assert own.start in known and own.keep in study.KEPT
        known.append(arm)
    tasks = ("", "filings_", "messages_") if made.recipe.endswith("tasks.toml") else ("",)
    measured = {"*", *made.arms} | {task + arm for task in tasks for arm in made.arms}
    assert {arm for pair in made.compare for arm in pair} <= measured


def test_every_arm_is_baked_and_measured_once(of, settings, tmp_path):
    made = study.read("labels")
    rows = study.studied(made, [0], tmp_path / "out", settings)
    found = {row["name"].removeprefix("labels."): row for row in rows}
    assert [name for name in found if "minus" not in name] == list(made.arms)
    assert [name for name in found if "minus" in name] == [f"tao_minus_{name}" for name in made.arms if name != "tao"]
    assert all(row["n"] == 3 for row in rows)
    baked = list(of.run.folder.parent.glob("base-0-*/policy/model.safetensors"))
    before = [file.stat().st_mtime_ns for file in baked]
    assert len(baked) == 11 and len({file.read_bytes() for file in baked}) >= 5
    groups = {name: read_json(of.arm("labels-tao").details(name))["groups"] for name in ("bake", "control")}
    assert groups["bake"] == groups["control"]
    steps = {name: len(list(of.arm(f"labels-{name}").steps("bake"))) for name in ("clean", "clean_longer")}
    assert steps["clean_longer"] == 4 * steps["clean"]
    assert study.studied(made, [0], tmp_path / "out", settings) == rows
    assert before == [file.stat().st_mtime_ns for file in baked]


def test_an_arm_of_other_settings_or_tables_is_refused(of):
    def run(*settings, keep="score"):
        arm = study.Arm(settings, keep=keep, until="score", folder="apart")
        return study.runs(study.Study("rounds", arms={"apart": arm}), of, [])["apart"]()

    assert run("bake.epochs=2").folder == run("bake.epochs=2").folder
    with pytest.raises(UserError, match="other settings"):
        run("bake.epochs=3")
    of.run.table("scores").write_bytes(b"another base")
    with pytest.raises(UserError, match=r"apart: was made \(at .*\) from other scores; remove it"):
        run("bake.epochs=2")


def test_a_labelled_group_teaches_the_label_and_nothing_else(of):
    prompts, *_ = study.tables(of.run)
    truth = answers.of_the_maker([p for p in prompts if p.split == "train"])
    completions, scores = labels.groups(of, {key: answer for key, (answer, _) in truth.items()})
    groups, counts = teaching(completions, scores, of.recipe)
    assert counts == {"trained": len(groups)} and 4 <= len(groups) <= 6
    assert all(best_weights(group, 16).tolist() == [1.0, 0.0] for group in groups)
    assert [completions[2 * i].text for i in range(len(groups))] == [truth[g.prompt_id][0] for g in groups]


def test_differences_are_paired_by_prompt_over_seeds():
    found = {"a": [np.array([1.0, 0.5]), np.array([0.5, 0.0])], "b": [np.array([0.5, 0.0]), np.array([0.0, -0.5])]}
    rows = {row["name"]: row for row in study.compared("s", found, [("a", "b")])}
    assert rows["s.a"]["value"] == 0.5 and rows["s.a_minus_b"]["n"] == 2
    assert [rows["s.a_minus_b"][key] for key in ("value", "low", "high")] == [0.5, 0.5, 0.5]
    assert rows["s.a"]["seeds"] == [0.75, 0.25] and rows["s.a_minus_b"]["seeds"] == [0.5, 0.5]


def test_real_filings_are_baked_by_the_recipe_from_all_groups_and_from_labels(tmp_path, tiny_llama, monkeypatch):
    rows = [
        {"prompt": f"Revenue was ${i} million in the year.\n\nQuestion: What?", "answer": f"${i}", "verifier": "number"}
        for i in range(36)
    ]
    monkeypatch.setattr(tatqa, "read", lambda: rows)
    monkeypatch.setattr(tatqa, "dealt", lambda rows: (rows[:16], rows[16:28], rows[28:32]))
    settings = [f"model={tiny_llama}", "dtype=float32", "sample.prompts=6", "sample.group_size=4", "bake.batch_size=2"]
    settings += ["sample.max_tokens=8", 'sample.stop=["a", "e", "i", "o"]', "evaluate.samples=4", "bake.epochs=2"]
    made = study.read("tatqa")
    found = {row["name"].removeprefix("tatqa."): row for row in study.studied(made, [0], tmp_path, settings)}
    assert all(found[name]["n"] == 4 for name in made.arms)
    quality = read_json(tmp_path / "tatqa-0-tatqa-tuned" / "evaluation.json")["quality"]
    told = {"tuned": "tuned_at_1", "control": "control_at_1", "gap_closed": "gap_closed"}
    assert all(found[name]["value"] == quality[figure]["value"] for name, figure in told.items())
    runs = [Run(tmp_path / f"tatqa-0-tatqa-{arm}") for arm in ("tuned", "all", "clean", "clean_longer")]
    groups = [read_json(run.details("bake"))["groups"]["trained"] for run in runs]
    assert groups[2] == groups[3] and len(runs[3].steps("bake")) == 4 * len(runs[2].steps("bake"))
    assert groups[0] == max(1, round(groups[1] / 4)) and groups[2] == 6
    data = {name: (tmp_path / "tatqa-0-data" / f"{name}.jsonl").read_text() for name in ("log", "picks")}
    assert [json.loads(line) for line in data["log"].splitlines()] == [{"prompt": row["prompt"]} for row in rows[16:28]]
    assert {json.loads(line)["prompt"] for line in data["picks"].splitlines()} == {row["prompt"] for row in rows[:16]}


def test_the_simulated_tester_picks_in_a_file_of_groups(tmp_path, monkeypatch):
    from make import log_cases
    from make import main as make

    case = log_cases(answers.DATA_SEED)[0]
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
    monkeypatch.setenv("BAKEOFF_TATQA", str(tmp_path))
    parts = tatqa.dealt(tatqa.read())
    contexts = [{row["prompt"].split("\n")[-3] for row in part} for part in parts]
    assert sum(map(len, parts)) == 60 and sum(map(len, contexts)) == len(set().union(*contexts)) == 30
    assert min(map(len, parts)) > 4
    monkeypatch.setenv("BAKEOFF_TATQA", str(tmp_path / "nowhere"))
    assert study.main(["tatqa", "--seeds", "0", "--out", str(tmp_path), "bake.n=4"]) == 2
    assert "BAKEOFF_TATQA" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "verifier"),
    [("5,687", "number"), ("$(9.8) million", "number"), ("2019", "number"), ("Ghana", "contains")],
)
def test_amounts_are_compared_as_numbers(answer, verifier):
    assert tatqa.verifier(answer) == verifier and VERIFIERS[verifier](f"It was {answer}.", answer)


def test_a_dirty_log_spoils_as_many_lines_as_said_and_leaves_the_others(tmp_path):
    clean, dirty = (dirt.lines(0, share) for share in (0.0, 0.3))
    assert len(clean) == len(set(clean)) == len(dirty) == dirt.LINES
    changed = [place for place, (a, b) in enumerate(zip(clean, dirty, strict=True)) if a != b]
    assert 0.27 < len(changed) / len(clean) <= 0.30  # a typo may find no word to spoil
    gold = (answers.FILINGS / "gold.jsonl").read_text()
    assert not [line for line in clean if line[12:-2] in gold]


def test_two_tasks_are_baked_together_and_alone(tmp_path, tiny_llama):
    recipe = (ROOT / "recipes" / "tasks.toml").read_text().replace("messages/grounded.py:grounded", "short.py:short")
    (tmp_path / "short.py").write_text("def short(completion):\n    return -len(completion)\n")
    for name in ("filings", "messages"):  # the last turns of a few rows, as much as a tiny model can read
        (tmp_path / name).mkdir()
        for file, size in (("gold", 3), ("log", 40)):
            rows = (answers.FILINGS.with_name(name) / f"{file}.jsonl").read_text("utf-8").splitlines()[:size]
            turns = [
                json.loads(row) for row in rows if row.endswith("}") and ("messages" in row) == (name == "messages")
            ]
            last = [t | {"messages": t["messages"][-1:]} if "messages" in t else t for t in turns]
            write_jsonl(tmp_path / name / f"{file}.jsonl", last)
    path = tmp_path / "tasks.toml"
    path.write_text(recipe.replace("../examples/", ""))
    settings = [
        f"model={tiny_llama}",
        "dtype=float32",
        "sample.prompts=14",
        "sample.group_size=4",
        "sample.max_tokens=24",
    ]
    settings += [
        'sample.stop=["a", "e", "0", "T"]',
        f'score.scorer="{tmp_path / "short.py"}:short"',
        "bake.batch_size=7",
    ]
    made = study.read("multitask")
    arms = {name: arm for name, arm in made.arms.items() if not arm.task}
    arms["filings_alone"] = study.Arm(["bake.batch_size=4"], task="filings")
    arms["messages_alone"] = study.Arm(["bake.batch_size=3"], task="messages")
    made = dataclasses.replace(made, recipe=str(path), settings=["reward.picks=[]", "bake.control=false"], arms=arms)
    rows = {row["name"].removeprefix("multitask."): row for row in study.studied(made, [0], tmp_path / "out", settings)}
    names = {f"{task}_{arm}" for task in ("filings", "messages") for arm in ("reference", "alone", "together")}
    assert names == {name for name in rows if "minus" not in name} and all(rows[name]["n"] == 3 for name in names)
    apart = [rows[f"{task}_together_minus_{task}_alone"]["value"] for task in ("filings", "messages")]
    assert rows["worst_task_minus_alone"]["value"] == min(apart)
    steps = [len(Run(path).steps("bake")) for path in (tmp_path / "out").glob("tasks-0-multitask-*")]
    assert steps == [2, 2, 2]


def test_arms_start_from_others_and_take_some_of_their_groups(of, tmp_path, settings):
    arms = {
        "drawn": study.Arm(["sample.group_size=8", "sample.prompts=5"], keep="prompts", until="score", policy=""),
        "n2": study.Arm(start="drawn", tries=2),
        "p3": study.Arm(prompts=3, until="score", policy=""),
        "p5": study.Arm(prompts=5, until="score", policy=""),
        "rounds": study.Arm(["bake.rounds=2", "sample.prompts=3"], keep="prompts"),
        "ways": study.Arm(['sample.variants=[{name="plain"}, {name="steps", instruction="Think."}]'], keep="prompts"),
    }
    rows = study.studied(study.Study("s", arms=arms, compare=[["rounds", "*"]]), [0], tmp_path / "out", settings)
    named = ["n2", "rounds", "ways"]
    assert [row["name"] for row in rows] == [f"s.{n}" for n in (*named, "rounds_minus_n2", "rounds_minus_ways")]
    drawn, two, three, five = (study.tables(of.arm(f"s-{name}")) for name in ("drawn", "n2", "p3", "p5"))
    assert {c.index for c in drawn[1]} == set(range(8)) and not of.arm("s-drawn").details("bake").exists()
    assert two[1] == [c for c in drawn[1] if c.index < 2] and [s.completion_id for s in two[2]] == [
        c.id for c in two[1]
    ]
    few, more = ({c.prompt_id for c in found[1]} for found in (three, five))
    assert len(few) == 3 and few < more
    assert {c.strategy for c in study.tables(of.arm("s-ways"))[1]} == {"plain", "steps"}
    assert of.arm("s-rounds").round("bake", 1).details("validation").exists()


def test_the_surest_groups_are_a_part_of_all(of):
    arms = {name: study.Arm(own.settings) for name, own in study.read("surest").arms.items() if name in surest.SHARES}
    runs = study.runs(study.Study("surest", arms=arms), of, [])
    groups = {name: read_json(make().details("bake"))["groups"] for name, make in runs.items()}
    trained = {name: found["trained"] for name, found in groups.items()}
    assert all(trained[name] == max(1, round(share * trained["all"])) for name, share in surest.SHARES.items())
    assert groups["quarter"].get("unsure", 0) == trained["all"] - trained["quarter"]
    told = {row["name"]: row for row in surest.taught([of])}
    assert {name: told[f"surest.taught_{name}"]["n"] for name in trained} == trained
    assert told["surest.taught_all"]["value"] == 0  # a random model knows nothing


def test_the_quarter_is_what_the_recipe_of_the_demo_bakes():
    recipe = config.load(ROOT / "recipes" / "filings.toml")
    quarter = config.load(ROOT / "recipes" / "filings.toml", study.read("surest").arms["quarter"].settings)
    assert quarter == recipe


def test_reward_models_of_fewer_picks_judge_the_same_completions(of, tmp_path):
    rows = [json.loads(line) for line in (answers.FILINGS / "picks.jsonl").read_text("utf-8").splitlines()]
    file = write_jsonl(tmp_path / "picks.jsonl", rows[:30])
    recipe = dataclasses.replace(of.recipe, reward=dataclasses.replace(of.recipe.reward, picks=[str(file)]))
    arms = {f"k{n}": study.Arm(keep="sample", make="some", values={"count": n}) for n in (20, 34)}
    runs = study.runs(study.Study("picks", arms=arms), study.Base(of.run, recipe), [])
    few, many = (make() for make in runs.values())
    asked = [json.loads(line)["prompt"] for line in (many.folder / "some.jsonl").read_text("utf-8").splitlines()]
    assert len(set(asked)) == 34 and asked[30:] == [row["prompt"] for row in rows[30:34]]
    found, all_of_them = study.tables(few), study.tables(of.run)
    assert found[1] == all_of_them[1]
    assert [s.reward for s in found[2]] != [s.reward for s in all_of_them[2]]


def test_what_is_quoted_of_a_finished_run(of):
    found = {"quality": {"gain": {"value": 0.5, "low": 0.25, "high": 0.75, "n": 3, "more": 1}}}
    arm = study.Arm(until="bake", policy="")
    made = study.Study("s", arms={"a": arm}, figures=["gain", "parameters", "seconds", "chance"])
    make = study.runs(made, of, [])["a"]
    write_json(make().details("evaluation"), found)
    rows = {row["name"]: row for row in study.quoted(made, of, make)}
    assert rows["gain"] == {"name": "gain", "value": 0.5, "low": 0.25, "high": 0.75, "n": 3} and "chance" not in rows
    assert rows["parameters"]["value"] > 1000 and rows["seconds"]["value"] > 0


def test_the_pictures_in_the_docs_are_those_of_the_results():
    made = pictures.pictures(results.read("studies"))
    shown = {path.stem.removeprefix("study_"): path.read_text("utf-8") for path in results.RESULTS.glob("study_*.svg")}
    assert shown == made, "make them again: python -m benchmarks.pictures"
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


def test_the_first_budget_that_reaches_the_goal_ends_the_time_of_both_sides(of, tiny_llama, monkeypatch):
    monkeypatch.setattr(peers, "PARTS", (1,))
    monkeypatch.setattr(peers, "AGAIN", (0, 2, 5))
    goal = study.measured(of, "goal", study.Arm(policy="best_of_n"), lambda: of.run)["goal"]
    assert set(goal) <= {0.0, 1.0}
    tries = read_table(of.arm("reference").table("tries"), Completion)
    assert len(tries) == 3 * study.TRIES
    bakes_BP, seconds = peers.ours(of, 6)
    runs = [of.arm(f"peers-p6-{more}") for more in peers.AGAIN]
    logged = [r["seconds"] for run in runs for r in run.logged() if r["stage"] in peers.TIMED and "seconds" in r]
    assert bakes_BP.shape == (3, 3) and len(logged) == 9 and seconds == pytest.approx(sum(logged) / 3)
    drawn = [study.tables(run)[1] for run in runs]
    asked = [{c.prompt_id for c in rows} for rows in drawn]
    assert all(len(ids) == 6 for ids in asked) and asked[0] != asked[1] != asked[2]

    folder = of.arm("peers-grpo-1e-4-1").folder
    for step in (3, 6):
        shutil.copytree(tiny_llama, folder / f"step-{step}")
    long = [2 * peers.MOST * seconds, 3 * peers.MOST * seconds]
    rows = [{"step": 3, "seconds": long[0], "reward": 0.1}, {"step": 6, "seconds": long[1], "reward": 0.2}]
    write_jsonl(folder / "checkpoints.jsonl", rows)
    python = "no interpreter is started: the time is over"
    every = peers.EVERY * seconds
    write_json(folder / "job.json", peers.job(of, "grpo:1e-4:1"))
    first, *more = peers.theirs(of, python, "grpo:1e-4:1", 2.0, (every, long[0]))
    assert first[1] == long[0] and not more and not (folder / "step-3").exists() and (folder / "step-6").exists()
    named = {row["name"]: row["value"] for row in peers.of_seed(of, python, ["grpo:1e-4:1"])}
    # a tiny model is never right, so both sides are there at once
    assert named["peers.target.seed0"] == 0 and named["peers.bakeoff.p6_seconds.seed0"] == pytest.approx(
        seconds, abs=0.1
    )
    assert named["time_to_quality_vs_trl.seed0"] == pytest.approx(long[0] / seconds, abs=0.01)
    assert named["peers.bakeoff.p6_reached.seed0"] == 1.0

    assert len(list(peers.theirs(of, python, "grpo:1e-4:1", 2.0, (2 * every, long[0])))) == 1
    write_json(folder / "job.json", peers.job(of, "grpo:1e-4:1:mask"))
    with pytest.raises(OSError, match="no interpreter"):  # another job than what is there
        list(peers.theirs(of, python, "grpo:1e-4:1", 2.0, (every, long[0])))
    assert not (folder / "checkpoints.jsonl").exists() and not (folder / "step-6").exists()
    runs[1].details("bake").unlink()  # killed: its seconds are not known, so it is made anew
    monkeypatch.setattr(study, "measured", lambda *_: {"goal": np.full(3, 2.0)})  # beyond reach: no trainer is asked
    *_, last = peers.of_seed(of, python, ["grpo:1e-4:1"])
    assert last == {"name": "peers.bakeoff.p6_reached.seed0", "value": 0.0}
    assert len([r for r in runs[1].logged() if r["stage"] == "sample" and "seconds" in r]) == 1


def test_the_interval_of_the_ratio_holds_the_prompts_on_which_either_side_falls_short():
    goal_P, right_P = np.array([1.0, 0.0] * 50), np.array([1.0, 0.25] * 50)
    slow = [(0.0, np.zeros(100)), (100.0, np.zeros(100))]
    fast = [(0.0, np.zeros(100)), (40.0, np.array([1.0, 0.0] * 50)), (90.0, np.array([1.0, 0.25] * 50))]
    found = peers.ratio([slow, fast], goal_P, right_P, 10.0)
    assert [found[key] for key in ("value", "low", "high", "n")] == [4.0, 4.0, 4.0, 100]
    few = peers.ratio([slow, fast], goal_P, np.linspace(0, 1, 100), 10.0)  # ours is as good on half the resamples
    assert few["low"] == 2.0 and few["high"] == 4.0
    rows = [{"name": f"{peers.RATIO}.seed{seed}", "value": float(seed)} for seed in (5, 3)]
    assert peers.worst(rows, 2) == {"name": peers.RATIO, "value": 3.0}
    assert peers.worst(rows, 3) == {"name": peers.RATIO, "value": None}


@pytest.mark.parametrize("goal, seconds", [(0.25, 5.0), (0.5, 10.0), (0.9, 18.0), (1.1, None), (0.0, 0.0)])
def test_the_time_of_a_goal_lies_on_the_line_between_two_checkpoints(goal, seconds):
    curve = [(0.0, 0.0), (10.0, 0.5), (20.0, 1.0), (30.0, 0.2)]
    assert peers.reached(curve, goal) == (seconds if seconds is None else pytest.approx(seconds))
