"""Write docs/noise_kinds.md and its figure: how the ranking of methods follows the kind of noise.

    CIFAR_NOISY_MIRRORS=UPSTREAM_FOLDER,LABEL_SETS_FOLDER python -m scripts.noise_kinds docs

Every number in them comes from one benchmark. With --check in place of the folder, nothing is
written, and the status is 1 if the document there says anything else.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import kendalltau

import cifar_noisy
from cifar_noisy.benchmarking.summary import bootstrap_interval
from cifar_noisy.settings import METHODS, PAPER_NAMES
from cifar_noisy.store.label_sets import find_label_set

BAYES = "Bayes' rule"
GROUPS = {
    "class-dependent, 0.20": "noise0.2",
    "class-dependent, 0.40": "noise0.4",
    "class-dependent, 0.70": "noise0.7",
    "CIFAR-10S, 0.20": "cifar10s",
    "human, 0.09": "cifar10n-aggregate",
    "human, 0.40": "cifar10n-worst",
}
"""Columns of the table: kind and share of wrong labels, and how the names of their labels begin."""
PAPER, FIVE_NETWORKS, HUMAN = ("noise",), ("cifar10s",), ("cifar10n",)

DOCUMENT = Path(__file__).parents[1] / "docs" / "noise_kinds.md"
FIGURE = "noise_kinds.png"


def bayes(labels: NDArray[np.int64], pyx: NDArray[Any]) -> NDArray[np.bool_]:
    """Flag labels that are less likely right than not, given image, label and noise matrix."""
    noise = cifar_noisy.estimate_noise_matrix(labels, pyx)  # p(given | true)
    clean = np.linalg.lstsq(noise, pyx.T.astype(float))[0].T.clip(1e-6)  # p(true | image)
    posterior = noise[labels] * clean  # p(true | image, given), but for a factor
    right = posterior[np.arange(len(labels)), labels] / posterior.sum(axis=1)
    found: NDArray[np.bool_] = right < 0.5
    return found


def f1_by_case() -> pd.DataFrame:
    """Return F1 of the six methods (columns) in each case (rows): a label set and a network."""
    result = cifar_noisy.benchmark(bayes, "all", METHODS)
    if result.unreachable or result.errors:
        sys.exit("\n".join(result.notes()))
    frame = result.frame.replace({"method": {"yours": BAYES}})
    table = frame.pivot(index=["labels", "model"], columns="method", values="f1")
    return table.loc[:, [*METHODS, BAYES]].astype(float)


def of(f1: pd.DataFrame, starts: tuple[str, ...]) -> pd.DataFrame:
    """Return the cases whose labels begin with one of these texts."""
    return f1[f1.index.get_level_values("labels").str.startswith(starts)]


def markdown(f1: pd.DataFrame) -> str:
    """Return the document."""
    means = {head: of(f1, (start,)).mean() for head, start in GROUPS.items()}
    ranks = {head: mean.rank(ascending=False).astype(int) for head, mean in means.items()}
    names = {str(method): name for method, name in PAPER_NAMES.items()}
    rows = [
        [
            names.get(method, method),
            f"`{method}`" if method in METHODS else "",
            *(f"{means[head][method]:.3f} ({ranks[head][method]})" for head in GROUPS),
        ]
        for method in map(str, f1.columns)
    ]
    heads = ["method", "name here", *GROUPS]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))
    return TEXT.format(table=table, **facts(f1))


def facts(f1: pd.DataFrame) -> dict[str, Any]:
    """Return the numbers of the text."""
    five = f1[list(METHODS)]
    paper, same, human = (of(five, starts) for starts in (PAPER, FIVE_NETWORKS, HUMAN))
    worst_first = of(five, ("noise0.2",))
    networks = [str(model) for model in same.index.get_level_values("model")]
    humans = of(five, ("cifar10n-worst",)).groupby("model").mean().loc[networks]
    at_same_rate = of(five, ("noise0.4",)).mean()
    bayes_ranks = f1.rank(axis=1, ascending=False)[BAYES]
    mine = {k: of(f1, s) for k, s in (("paper", PAPER), ("same", FIVE_NETWORKS), ("human", HUMAN))}
    gap = {k: t[BAYES] - t[list(METHODS)].max(axis=1) for k, t in mine.items()}
    return {
        "n_human": len(human),
        "n_same": len(same),
        "argmax_best_human": int((human.idxmax(axis=1) == "argmax").sum()),
        "joint_worst_human": int((human.idxmin(axis=1) == "conf_joint_only").sum()),
        "argmax_worst_same": int((same.idxmin(axis=1) == "argmax").sum()),
        "n_low": len(worst_first),
        "argmax_worst_low": int((worst_first.idxmin(axis=1) == "argmax").sum()),
        "gain_human": gain(human, "argmax", "cl_both"),
        "gain_same": gain(same, "argmax", "cl_both"),
        "tau_networks": ", ".join(
            f"{kendalltau(same.groupby('model').mean().loc[n], humans.loc[n])[0]:.1f}"
            for n in networks
        ),
        "tau_same_rate": f"{kendalltau(at_same_rate, humans.mean())[0]:.1f}",
        "spread_same_rate": f"{at_same_rate.max() - at_same_rate.min():.3f}",
        "spread_human": f"{humans.mean().max() - humans.mean().min():.3f}",
        "n_paper": len(paper),
        **{f"bayes_first_{k}": int((bayes_ranks.loc[t.index] == 1).sum()) for k, t in mine.items()},
        **{f"bayes_last_{k}": int((bayes_ranks.loc[t.index] == 6).sum()) for k, t in mine.items()},
        **{f"bayes_gap_{k}": f"{g.mean():+.3f}" for k, g in gap.items()},
        "rate_aggregate": f"{find_label_set('cifar10n-aggregate').noise_rate:.3f}",
        "rate_worst": f"{find_label_set('cifar10n-worst').noise_rate:.3f}",
        "figure": FIGURE,
    }


def gain(over: pd.DataFrame, method: str, other: str) -> str:
    """Return the mean difference in F1, with its 95 % interval by a bootstrap over cases."""
    differences = (over[method] - over[other]).to_numpy()
    low, high = bootstrap_interval(differences[:, None])
    return f"{differences.mean():+.3f} ({low[0]:+.3f} to {high[0]:+.3f})"


def draw(f1: pd.DataFrame, to: Path) -> None:
    """Draw F1 of each method by kind of noise: the mean as a line, cases as points."""
    from cifar_noisy.report.plot import NEUTRAL, PALETTE

    figure = Figure(figsize=(9, 5), dpi=110, layout="constrained")
    ax = figure.add_subplot()
    styles = dict(zip(f1.columns, [*PALETTE[:5], NEUTRAL], strict=True))
    for number, (method, colour) in enumerate(styles.items()):
        means = [of(f1, (start,))[method].mean() for start in GROUPS.values()]
        ax.plot(range(len(GROUPS)), means, color=colour, marker="osD^vX"[number], label=method,
                linestyle="--" if method == BAYES else "-")  # fmt: skip
        for place, start in enumerate(GROUPS.values()):
            cases = of(f1, (start,))[method]
            ax.scatter([place] * len(cases), cases, 12, color=colour, alpha=0.4, linewidths=0)
    ax.set_xticks(range(len(GROUPS)), [head.replace(", ", "\n") for head in GROUPS])
    ax.set(ylabel="F1 of finding label errors", title="Human noise reverses the ranking of methods")
    ax.axvspan(3.5, 5.5, color=NEUTRAL, alpha=0.1)
    ax.grid(alpha=0.3)
    ax.legend(loc="lower left", fontsize="small")
    figure.savefig(to)


TEXT = """\
# Which method is best depends on the kind of noise

Mean F1 of finding label errors, and in brackets the rank in the column, over the {n_paper}
settings of the paper that have noise and probabilities (four for each share of wrong labels,
ResNet-50), and over the networks of CIFAR-10S and CIFAR-10N (the same five for each column). All
probabilities are the published ones; `python -m scripts.noise_kinds docs` computes every number
of this page.

{table}

The last row is no method of the paper: it flags a label that is less likely right than not by
Bayes' rule, given the image and the noise matrix that confident learning estimates
(`scripts/noise_kinds.py`, six lines). It takes class-dependent noise at its word.

![F1 of each method by kind of noise, from the columns of the table]({figure})

- **Human noise reverses the ranking.** `argmax` has the best F1 of the five methods in
  {argmax_best_human} of {n_human} arrays of human noise, and the worst in {argmax_worst_same} of
  {n_same} arrays of CIFAR-10S, from the same five networks. It is the worst in {argmax_worst_low}
  of {n_low} settings of the paper at noise 0.2, too.
- **By how much.** `argmax` less `cl_both` is {gain_human} in F1 on human noise and {gain_same} on
  CIFAR-10S (mean over cases; in brackets 95 % by a bootstrap over cases, few as they are).
- **Not the rate alone.** Wrong labels are {rate_worst} of all in CIFAR-10N's worst set and 0.4 in
  four settings of the paper. There the five methods lie within {spread_same_rate} of each other,
  on human noise {spread_human} apart. But the rate counts as well: at class-dependent noise 0.7
  `argmax` is best of the five again.
- **Network by network**, Kendall's tau between the five methods' ranking on CIFAR-10S and on
  CIFAR-10N's worst set is {tau_networks}: the two rankings rather oppose each other.
- **What takes the noise matrix at its word loses most.** Bayes' rule has the best F1 of
  the six in {bayes_first_paper} of {n_paper} settings of the paper and {bayes_first_same} of
  {n_same} arrays of CIFAR-10S, and the worst in {bayes_last_human} of {n_human} on human noise;
  its distance to the best of the five is on average {bayes_gap_paper}, {bayes_gap_same} and
  {bayes_gap_human}.

So a result on class-dependent noise says little about labels that people gave. A likely reason,
which is not measured here: people err on images that are hard, where a network is unsure as well,
and not on any image of a class alike.

What this does not show: the paper's probabilities are of another network and of four folds
instead of five; CIFAR-10N has 0.09 and 0.40 wrong labels, CIFAR-10S 0.20; and there are two sets
of human labels of the same images, whose ten arrays are not independent.
"""


def main() -> None:
    f1 = f1_by_case()
    text = markdown(f1)
    if sys.argv[1:] == ["--check"]:
        if DOCUMENT.read_text(encoding="utf-8") != text:
            sys.exit(f"{DOCUMENT} says other things than the published files: write it again")
        return
    folder = Path(sys.argv[1])
    (folder / DOCUMENT.name).write_text(text, encoding="utf-8")
    draw(f1, folder / FIGURE)


if __name__ == "__main__":
    main()
