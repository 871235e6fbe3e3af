import pytest

from bakeoff.config import Recipe, Sample
from bakeoff.errors import UserError
from bakeoff.run import open_run, peak_memory_mb


def test_the_same_settings_go_on_and_others_are_listed(tmp_path):
    open_run(tmp_path / "run", Recipe())
    open_run(tmp_path / "run", Recipe())
    with pytest.raises(UserError, match=r"sample.group_size: 16 -> 4; seed: 0 -> 1"):
        open_run(tmp_path / "run", Recipe(seed=1, sample=Sample(group_size=4)))


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
