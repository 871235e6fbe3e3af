import pytest
import torch

from bakeoff import __version__
from bakeoff import run as run_module
from bakeoff.errors import UserError
from bakeoff.records import Score, atomic
from bakeoff.run import GROUPS_PER_PART, Run, open_run, other_versions, peak_memory_mb, read_json, table_in_parts
from bakeoff.settings import Recipe, Sample


def test_the_same_settings_go_on_and_others_are_listed(tmp_path):
    open_run(tmp_path / "run", Recipe())
    open_run(tmp_path / "run", Recipe())
    other = Recipe(seed=1, sample=Sample(group_size=4))
    (tmp_path / "run" / "prompts.json").write_text("{}")
    with pytest.raises(UserError, match=r"sample.group_size: 16 -> 4; seed: 0 -> 1"):
        open_run(tmp_path / "run", other)
    (tmp_path / "run" / "prompts.json").unlink()  # a folder in which nothing was made takes any settings
    open_run(tmp_path / "run", Recipe()).log("prompts", seconds=1.0)
    open_run(tmp_path / "run", other)
    with pytest.raises(UserError, match="seed: 1 -> 0"):
        (tmp_path / "run" / "parts").mkdir()
        (tmp_path / "run" / "parts" / "completions-00000.parquet").write_text("")
        open_run(tmp_path / "run", Recipe())


def test_damaged_settings_are_one_line(tmp_path):
    open_run(tmp_path / "run", Recipe()).config.write_text("seed = = 1")
    with pytest.raises(UserError, match=r"config.toml: damaged \(.*line 1.*\); mend it"):
        open_run(tmp_path / "run", Recipe())


def test_times_of_broken_off_stages_are_kept(tmp_path):
    run = open_run(tmp_path / "run", Recipe())
    with pytest.raises(KeyboardInterrupt), run.timed("bake"):
        raise KeyboardInterrupt
    with run.timed("bake"):
        run.log("bake", step=0, loss=1.0)
    with run.metrics.open("a") as file:
        file.write('{"stage": "ba')  # a kill in the middle of a line
    lines = run.logged()
    assert [line["stage"] for line in lines] == ["bake"] * 3
    assert sum("seconds" in line for line in lines) == 2
    assert lines[-1]["peak_memory_mb"] == pytest.approx(peak_memory_mb(), rel=0.5)
    run.log("evaluate", seconds=1.0)
    assert [line["stage"] for line in run.logged()] == ["bake"] * 3 + ["evaluate"]


def test_only_a_round_belongs_to_another_run(tmp_path):
    run = Run(tmp_path / "rounds" / "mine")
    assert run.whole() is run and run.round("control", 12).whole().folder == run.folder


def test_what_a_killed_process_was_writing_is_swept(tmp_path):
    run = open_run(tmp_path / "run", Recipe())
    (run.folder / "parts").mkdir()
    (run.folder / ".policy.tmp").mkdir()
    (run.folder / ".policy.tmp" / "model.safetensors").write_text("half")
    with atomic(run.part("scores", 0)) as beside:
        beside.write_text("half")
        open_run(run.folder, Recipe())
        assert not beside.exists()
        beside.write_text("whole")
    assert not (run.folder / ".policy.tmp").exists() and run.part("scores", 0).exists()


def test_a_table_in_parts_goes_on_after_the_parts_that_are_there(tmp_path):
    run, asked = open_run(tmp_path / "run", Recipe()), []

    def make(chunk, done):
        asked.append(len(chunk))
        if len(asked) == 2:
            raise KeyboardInterrupt
        for number in chunk:
            done()
            yield Score(f"c{number}", f"p{number}", "test", number / 2)

    groups = range(2 * GROUPS_PER_PART + 3)
    with pytest.raises(KeyboardInterrupt):
        table_in_parts(run, "scores", Score, groups, make)
    rows = table_in_parts(run, "scores", Score, groups, make)
    assert [row.reward for row in rows] == [number / 2 for number in groups]
    assert asked == [GROUPS_PER_PART, GROUPS_PER_PART, GROUPS_PER_PART, 3]
    assert table_in_parts(run, "scores", Score, groups, make) == rows and len(asked) == 4


def test_a_run_records_the_versions_that_worked_on_it(tmp_path, monkeypatch):
    folder = open_run(tmp_path / "run", Recipe())
    (made,) = read_json(folder.versions)["made_by"]
    assert made["bakeoff"] == __version__ and made["torch"].startswith(torch.__version__.partition("+")[0])
    assert made.keys() == {"bakeoff", "torch", "transformers", "python", "platform"}
    assert list(other_versions(open_run(folder.folder, Recipe()))) == []
    assert read_json(folder.versions)["made_by"] == [made]
    monkeypatch.setattr(run_module, "__version__", "99.0")
    (said,) = other_versions(open_run(folder.folder, Recipe()))
    assert f"bakeoff {__version__} worked on it, this is 99.0" in said
    assert [one["bakeoff"] for one in read_json(folder.versions)["made_by"]] == [__version__, "99.0"]


def test_a_run_without_such_a_record_says_that_its_version_is_not_known(tmp_path):
    folder = open_run(tmp_path / "run", Recipe())
    folder.versions.unlink()
    (folder.folder / "prompts.json").write_text("{}")
    (said,) = other_versions(open_run(folder.folder, Recipe()))
    assert "bakeoff of no known version worked on it" in said
