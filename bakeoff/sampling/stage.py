"""Stage: training prompts in, N completions of each out."""

from collections import Counter
from collections.abc import Sequence

from bakeoff.data import splits
from bakeoff.errors import UserError
from bakeoff.records import Prompt, read_table
from bakeoff.run import Run, write_json
from bakeoff.sampling import choose, variants
from bakeoff.sampling.engine import Sampling
from bakeoff.sampling.resume import complete_table, failures
from bakeoff.settings import Recipe


def sample(run: Run, recipe: Recipe, picks: variants.Picks = list) -> None:
    """Draw `sample.group_size` completions of every training prompt into the table `completions`.

    Prompt variants show examples of `picks`. `sample.json` counts the prompts, and those without a group by reason.
    """
    prompts = splits.training(read_table(run.table("prompts"), Prompt), recipe)
    draw_groups(run, recipe, recipe.model, prompts, Sampling.of(recipe.sample, recipe.seed), picks)


def draw_groups(
    run: Run,
    recipe: Recipe,
    model: str,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    picks: variants.Picks = list,
) -> None:
    """Draw a group for each of the prompts from a model into the run's table `completions`, and count them."""
    rows = complete_table(
        run, "completions", prompts, sampling, lambda: variants.over(choose.engine(model, recipe), model, recipe, picks)
    )
    failed = failures(run, "completions")
    if failed and not rows:
        raise _useless(run, f"not one of {len(prompts)} prompts could be completed; the first: {failed[0].detail}")
    if rows and not any(c.text.strip() for c in rows):
        raise _useless(run, f"all {len(rows)} completions are empty: find out why the model ends at once")
    write_json(run.details("sample"), {"prompts": len(prompts), "failed": Counter(f.reason for f in failed)})


def _useless(run: Run, why: str) -> UserError:
    """What to raise where completions are of no use: they are removed, so that others can be drawn."""
    for name in ("completions", "completions_failed"):
        run.table(name).unlink(missing_ok=True)
    return UserError(f"{run.folder}: {why}; then the same command goes on from here")
