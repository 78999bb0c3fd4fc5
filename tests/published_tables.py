"""The numbers that the paper and upstream's notebooks printed, as facts with their source.

Columns are settings, noise before sparsity. What is printed as .875 or 85.36 stands here so.
"""

from collections.abc import Iterator, Sequence
from typing import cast

from cifar_noisy import Setting
from cifar_noisy.evaluation.tables import Cell
from cifar_noisy.settings import Method, OtherMethod

Printed = dict[Cell, str]

NOISY = tuple(
    Setting(noise, sparsity) for noise in (0.2, 0.4, 0.7) for sparsity in (0, 0.2, 0.4, 0.6)
)
TWO_SPARSITIES = tuple(
    Setting(noise, sparsity) for noise in (0.2, 0.4, 0.7) for sparsity in (0, 0.6)
)


def _cells(group: str, settings: Sequence[Setting], table: str) -> Iterator[tuple[Cell, str]]:
    for line in table.strip().splitlines():
        method, *values = line.split()
        for setting, value in zip(settings, values, strict=True):
            yield (group, cast(Method | OtherMethod, method), setting), value


def _table(settings: Sequence[Setting], **groups: str) -> Printed:
    return dict(cell for group, table in groups.items() for cell in _cells(group, settings, table))


ACCURACY_2020 = _table(
    NOISY,
    coteaching="""
    argmax          .875 .877 .886 .882   .830 .825 .764 .711   .376 .370 .350 .337
    cl_pbc          .885 .885 .890 .892   .848 .849 .844 .855   .386 .334 .364 .330
    conf_joint_only .896 .896 .897 .901   .859 .861 .861 .865   .380 .407 .349 .344
    cl_both         .891 .894 .897 .897   .868 .863 .861 .857   .384 .336 .350 .344
    cl_pbnr         .892 .889 .895 .893   .863 .864 .861 .864   .363 .369 .362 .349
    """,
)
"""Test accuracy of Co-Teaching on the kept examples, one trial.

Source: table 1 of the preprint of February 2020, as the picture
``cifar10_benchmarks.png`` in cleanlab's repository shows it.
"""

OTHERS_2020 = _table(
    NOISY,
    **{
        "all examples": """
        coteaching .812 .813 .814 .806   .629 .616 .609 .581   .305 .302 .277 .260
        sceloss    .872 .875 .888 .844   .763 .741 .649 .583   .330 .287 .309 .240
        """
    },
)
"""Test accuracy of Co-Teaching and SCE on all examples. Source: the same picture."""

LABEL_ERRORS_2021 = _table(
    TWO_SPARSITIES,
    accuracy="""
    argmax          .84 .85 .85 .81 .76 .61
    cl_pbc          .88 .88 .86 .82 .73 .59
    cl_pbnr         .89 .90 .88 .84 .66 .54
    cl_both         .90 .90 .87 .83 .64 .53
    conf_joint_only .89 .90 .86 .84 .76 .60
    """,
    f1="""
    argmax          .71 .72 .84 .79 .83 .70
    cl_pbc          .76 .76 .84 .79 .81 .67
    cl_pbnr         .77 .79 .85 .80 .72 .60
    cl_both         .78 .78 .84 .78 .70 .58
    conf_joint_only .75 .78 .84 .80 .83 .69
    """,
    precision="""
    argmax          .56 .58 .74 .70 .82 .76
    cl_pbc          .63 .65 .76 .74 .82 .76
    cl_pbnr         .65 .68 .82 .79 .84 .77
    cl_both         .67 .69 .82 .79 .84 .77
    conf_joint_only .67 .70 .78 .77 .82 .76
    """,
    recall="""
    argmax          .98 .97 .97 .90 .84 .65
    cl_pbc          .96 .92 .94 .85 .80 .61
    cl_pbnr         .93 .94 .88 .82 .63 .49
    cl_both         .93 .90 .87 .78 .61 .47
    conf_joint_only .86 .88 .91 .84 .84 .63
    """,
)
"""Finding label errors.

Source: cells [8] to [11] of upstream's notebook
``cifar10/cifar10_work_log_experiments_tables_figures_benchmarking.ipynb``, run again in 2021.
"""

LABEL_ERRORS_2020 = LABEL_ERRORS_2021 | {
    ("precision", "cl_pbc", Setting(0.2, 0)): ".64",
    ("recall", "cl_pbc", Setting(0.2, 0.6)): ".93",
}
"""Finding label errors. Source: the LaTeX of February 2020 in cell [12] of the same notebook."""

RESNET50_TOP1 = _table(
    (Setting(0, 0), *NOISY),
    resnet50="""
    argmax          88.05  85.36 85.40 86.35 85.72  80.56 79.60 80.15 79.80  33.16 36.32 32.84 29.12
    cl_pbc          89.15  85.97 85.37 86.21 85.47  80.23 80.09 80.99 81.30  35.62 37.32 26.33 33.58
    conf_joint_only 89.25  84.77 85.85 86.15 86.08  81.47 81.03 81.61 81.50  34.04 39.79 28.23 37.16
    cl_both         88.84  85.82 85.90 86.21 86.19  80.83 80.04 80.73 82.19  45.97 41.99 38.19 37.10
    cl_pbnr         88.35  85.85 85.45 86.46 86.20  81.01 79.55 81.42 82.51  46.81 41.58 39.89 36.00
    """,
)
"""Test accuracy of ResNet-50 on the kept examples, in percent, at each training's best epoch.

Source: the evaluations printed in cell [45] of the same notebook.
"""
