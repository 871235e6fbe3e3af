"""The GPU benchmark runs on any machine, on toy shapes: its first run on a card measures, and finds no slip."""

import json

import pytest

from benchmarks import gpu


@pytest.mark.parametrize("part", gpu.PARTS)
def test_a_part_runs_on_toy_shapes(part, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["gpu", "--tiny", "--only", part, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 0
    rows = json.loads((tmp_path / "gpu.json").read_text())
    assert {row["machine"] for row in rows} == {gpu.name_of_card()}
    assert all(row["value"] == row["value"] for row in rows)
