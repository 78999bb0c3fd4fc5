"""The files of other repositories that build_registry.py registers: which they are, and whose."""

from cifar_noisy.loading.given_labels import BY_NUMBER
from cifar_noisy.store.label_sets import LabelSet, NoiseKind

REPOSITORIES = {
    "UCSC-REAL/cifar-10-100n": ("49df7d8a69e355470c77c1c2f2424916325a394b", "CC BY-NC 4.0"),
    "chenpf1025/IDN": ("24cd1154d2f0ab4baa7d23bd015be27ced07a383", "none stated"),
    "KlemenVovk/noisy-labels": ("3d92600c7fdb8477cbc4b8d64688cb5249f30498", "MIT"),
    "gordon-lim/soft-neighbor-labels": (
        "a98d8f624ad0b10e4321991c703a888556fb93c6", "none stated",
    ),
    "cleanlab/label-error-detection-benchmarks": (
        "5f4f83aa7f8ee42357c9f4034fae081be1367859", "AGPL-3.0",
    ),
    "jcpeterson/cifar-10h": ("48da312b193b82e6939ec20f23d1f09cbdd849c8", "CC BY-NC-SA 4.0"),
    "cleanlab/label-errors": ("6d5d6b31a13216290afc40e5c6319399c4d15c06", "Apache-2.0"),
}  # fmt: skip
"""Revision and licence of the other repositories."""

PAPER = (
    "Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels. JAIR "
    "70, 2021"
)
_CIFAR10N = (
    "Wei, Zhu, Cheng, Liu, Niu, Liu: Learning with Noisy Labels Revisited: A Study Using "
    "Real-World Human Annotations. ICLR 2022"
)
_CHEN = (
    "Chen, Ye, Chen, Zhao, Heng: Beyond Class-Conditional Assumption: A Primary Attempt to Combat "
    "Instance-Dependent Label Noise. AAAI 2021"
)
_CORES = (
    "Cheng, Zhu, Li, Gong, Sun, Liu: Learning with Instance-Dependent Label Noise: A Sample Sieve "
    "Approach. ICLR 2021"
)
_LIM = (
    "Lim, Larson, Leach: Robust Testing for Deep Learning using Human Label Noise. arXiv "
    "2412.00244, 2024"
)
_KUAN = (
    "Kuan, Mueller: Model-Agnostic Label Quality Scoring to Detect Real-World Label Errors. ICML "
    "DataPerf Workshop 2022"
)

BENCHMARKS = "cleanlab/label-error-detection-benchmarks/src/experiments"
MODELS = (
    "resnet18", "resnet50d", "efficientnet_b1", "twins_pcpvt_base", "swin_base_patch4_window7_224",
)  # fmt: skip
PYX_FOLDERS = {
    "cifar10n-aggregate": "cifar-10n-aggregate/cifar-10n-png_noise_type_aggre_cv_",
    "cifar10n-worst": "cifar-10n-worst/cifar-10n-png_noise_type_worst_cv_",
    BY_NUMBER: "cifar-10/cifar10_train_dataset_noise_amount_0.2_sparsity_0.4_cv_",
}
"""By label set, the folders of its probabilities less the name of the network."""


def _other(
    name: str, kind: NoiseKind, path: str, citation: str, key: str | None = None
) -> LabelSet:
    return LabelSet(name, 0, kind, path, key, "", citation)


_HUMAN_FILE = "UCSC-REAL/cifar-10-100n/data/CIFAR-10_human.pt"
_CORES_FOLDER = "KlemenVovk/noisy-labels/src/reproducibility/learning_strategies/CAL/assets"
OTHER_LABEL_SETS = (
    *(
        _other(f"cifar10n-{name}", "human", _HUMAN_FILE, _CIFAR10N, key)
        for name, key in {
            "aggregate": "aggre_label",
            "random1": "random_label1",
            "random2": "random_label2",
            "random3": "random_label3",
            "worst": "worse_label",
        }.items()
    ),
    *(
        _other(
            f"idn-chen-{rate}", "instance-dependent",
            f"chenpf1025/IDN/data/CIFAR10/label_noisy/dependent{rate}.csv", _CHEN, "1",
        )
        for rate in ("0.1", "0.2", "0.3", "0.4")
    ),
    *(
        _other(
            f"idn-cores-{rate}", "instance-dependent", f"{_CORES_FOLDER}/IDN_{rate}_C10.pt", _CORES
        )
        for rate in ("0.2", "0.4", "0.6")
    ),
    *(
        _other(
            f"{model}-{rate}", "instance-dependent",
            f"gordon-lim/soft-neighbor-labels/label_noise/cifar10-{model}-{rate}.npy", _LIM,
        )
        for model in ("cluster", "pmd")
        for rate in ("0.35", "0.70")
    ),
    _other(
        BY_NUMBER, "class-dependent",
        f"{BENCHMARKS}/{PYX_FOLDERS[BY_NUMBER]}resnet18/noisy_labels.npy", _KUAN,
    ),
)  # fmt: skip
"""Label sets of other repositories; what is counted of them is filled in from their files."""

ORIGINAL_TEST_LABELS = (
    "cleanlab/label-errors/original_test_labels/cifar10_test_set_original_labels.npy"
)
TEST_LABELS = (
    "jcpeterson/cifar-10h/data/cifar10h-counts.npy",
    "jcpeterson/cifar-10h/data/cifar10h-probs.npy",
    ORIGINAL_TEST_LABELS,
    "cleanlab/label-errors/mturk/cifar10_mturk.json",
    "cleanlab/label-errors/cross_validated_predicted_probabilities/cifar10_test_set_pyx.npy",
)
