"""The summary of a benchmark: spread, ranks, wins and bootstrap intervals over its cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

N_RESAMPLES = 10_000
CONFIDENCE = 0.95
SEED = 0


def f1_by_case(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the F1 of each case (row) and method (column), of a score its best F1; else NaN."""
    f1 = frame["f1"].fillna(frame["best_f1"]).astype("float64")
    table = frame.assign(headline=f1).pivot(index="case", columns="method", values="headline")
    return table.loc[frame["case"].unique(), frame["method"].unique()]


def best_baseline(f1: pd.DataFrame, baselines: Sequence[str]) -> str | None:
    """Return the baseline of the highest mean F1, among those with a number in most cases."""
    counts = f1[list(baselines)].count()
    if not counts.any():
        return None
    return str(f1[counts.index[counts == counts.max()]].mean().idxmax())


def summarize(frame: pd.DataFrame, baselines: Sequence[str]) -> pd.DataFrame:
    """Return a row per method; see `Benchmark.summary` for the columns."""
    import pandas as pd

    if frame.empty:
        return pd.DataFrame(columns=["cases", "failed", "mean"], index=pd.Index([], name="method"))
    f1, by_method = f1_by_case(frame), frame.groupby("method", sort=False)
    defined = f1[f1.notna().any(axis=1)]
    columns: dict[str, Any] = {
        "kind": by_method["kind"].agg(lambda kinds: ", ".join(sorted(set(kinds.dropna())))),
        "cases": f1.count(),
        "failed": by_method["error"].count(),
        "mean": f1.mean(),
        "worst": f1.min(),
        "best": f1.max(),
        # A method that failed in a case is the last one there.
        "mean_rank": defined.rank(axis=1, ascending=False, na_option="bottom").mean(),
    }
    for name in baselines:
        columns[f"wins_{name}"] = f1.gt(f1[name], axis=0).sum()
    for labels, spread in _ranges_over_models(frame, f1).items():
        columns[f"range_{labels}"] = spread
    best = best_baseline(f1, baselines)
    if best is not None:
        differences = f1.drop(columns=best).sub(f1[best], axis=0)
        low, high = bootstrap_interval(differences.to_numpy())
        columns["difference"] = differences.mean()
        columns["difference_low"] = pd.Series(low, differences.columns)
        columns["difference_high"] = pd.Series(high, differences.columns)
    return pd.DataFrame(columns, index=pd.Index(f1.columns, name="method"))


def _ranges_over_models(frame: pd.DataFrame, f1: pd.DataFrame) -> dict[str, pd.Series[float]]:
    """Return, for label sets with several networks, the highest minus the lowest F1 over them."""
    cases = frame.drop_duplicates("case").set_index("case")["labels"]
    several = cases[cases.duplicated(keep=False)].unique()
    parts = {labels: f1[cases.loc[f1.index] == labels] for labels in several}
    return {labels: part.max() - part.min() for labels, part in parts.items()}


def bootstrap_interval(
    differences: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the percentile interval of the mean of each column over resampled rows.

    All columns see the same resamples. A NaN is a case that the column does not have; fewer than
    two give no interval.

    Parameters
    ----------
    differences : (n_cases, n_methods) float64

    Returns
    -------
    tuple of two (n_methods,) float64
        Lower and upper end; NaN where there is none.
    """
    has_value = ~np.isnan(differences)
    n_cases = len(differences)
    drawn = np.random.default_rng(SEED).integers(0, n_cases, (N_RESAMPLES, n_cases))
    flat = drawn + n_cases * np.arange(N_RESAMPLES)[:, None]
    times = np.bincount(flat.ravel(), minlength=N_RESAMPLES * n_cases).reshape(-1, n_cases)
    sums, sizes = times @ np.where(has_value, differences, 0), times @ has_value.astype(np.int64)
    enough = has_value.sum(axis=0) >= 2
    means = np.where((sizes > 0) & enough, sums / np.maximum(sizes, 1), np.nan)
    low, high = np.full((2, means.shape[1]), np.nan)
    tail = (1 - CONFIDENCE) / 2
    if enough.any():
        low[enough], high[enough] = np.nanquantile(means[:, enough], (tail, 1 - tail), axis=0)
    return low, high
