"""A policy to numbers. Others use `stage.evaluate`, `summary.summarize`, `stage.gold_answers` and `figures`."""
