__version__: str

from .benchmarking.benchmark import Benchmark as Benchmark, benchmark as benchmark
from .benchmarking.training import Training as Training
from .confident_learning.label_errors import (
    confident_joint as confident_joint,
    estimate_joint as estimate_joint,
    estimate_noise_matrix as estimate_noise_matrix,
    label_errors as label_errors,
)
from .confident_learning.scores import label_error_scores as label_error_scores
from .confident_learning.suggestions import suggested_labels as suggested_labels
from .errors import (
    BundleError as BundleError,
    CifarNoisyError as CifarNoisyError,
    CifarNoisyWarning as CifarNoisyWarning,
    ConfigurationError as ConfigurationError,
    CorruptFileWarning as CorruptFileWarning,
    CountedMatrixWarning as CountedMatrixWarning,
    ImagesError as ImagesError,
    InterruptedRunError as InterruptedRunError,
    InvalidInputError as InvalidInputError,
    MissingExtraError as MissingExtraError,
    MissingInputError as MissingInputError,
    ReadOnlyError as ReadOnlyError,
    RecomputeError as RecomputeError,
    StorageError as StorageError,
    SuspectMaskWarning as SuspectMaskWarning,
    TrainingLogError as TrainingLogError,
    TruncatedLogWarning as TruncatedLogWarning,
    UnavailableError as UnavailableError,
    UnknownArtifactError as UnknownArtifactError,
)
from .evaluation.evaluate import (
    evaluate as evaluate,
    evaluate_published as evaluate_published,
    evaluate_pyx as evaluate_pyx,
)
from .evaluation.printed_tables import (
    ComparisonWithPrint as ComparisonWithPrint,
    compare_with_print as compare_with_print,
)
from .evaluation.results import (
    Detection as Detection,
    Evaluation as Evaluation,
    Fit as Fit,
    PyxEvaluation as PyxEvaluation,
    Ranking as Ranking,
)
from .evaluation.retrained_agreement import (
    Comparison as Comparison,
    RecomputedComparison as RecomputedComparison,
    compare_recomputed as compare_recomputed,
)
from .evaluation.table_formats import format_tables as format_tables
from .evaluation.tables import (
    Table as Table,
    accuracy_of_log as accuracy_of_log,
    accuracy_table as accuracy_table,
    label_error_table as label_error_table,
    paper_tables as paper_tables,
)
from .evaluation.testset_accuracy import (
    AccuracyOnTestSet as AccuracyOnTestSet,
    test_accuracy as test_accuracy,
)
from .evaluation.verification import (
    Check as Check,
    Difference as Difference,
    Verification as Verification,
    verify as verify,
)
from .images.alignment import Alignment as Alignment, check_alignment as check_alignment
from .images.batching import batches as batches
from .images.dataset import NoisyCIFAR10 as NoisyCIFAR10
from .images.hf_datasets import (
    as_hf_dataset as as_hf_dataset,
    export_hf_dataset as export_hf_dataset,
)
from .images.packs import Images as Images, load_images as load_images
from .images.write_images import export_images as export_images, write_images as write_images
from .loading.artifact_loading import (
    cache_folder as cache_folder,
    cached_path as cached_path,
    download as download,
    load_label_errors as load_label_errors,
    load_noise_matrix as load_noise_matrix,
    load_noisy_labels as load_noisy_labels,
    load_train_mask as load_train_mask,
    load_training_log as load_training_log,
    load_true_labels as load_true_labels,
)
from .loading.label_exports import export_labels as export_labels
from .loading.label_files import LabelFile as LabelFile, read_labels as read_labels
from .loading.noise_models import (
    NOISE_MODELS as NOISE_MODELS,
    GeneratedLabels as GeneratedLabels,
    generate_labels as generate_labels,
    noise_model_matrix as noise_model_matrix,
)
from .loading.testset_labels import load_test_labels as load_test_labels
from .loading.training_logs import (
    TrainingLog as TrainingLog,
    parse_training_log as parse_training_log,
)
from .recompute.load_pyx import load_pyx as load_pyx
from .records import Records as Records
from .report import plot as plot
from .report.published_page import write_report as write_report
from .settings import (
    CLASSES as CLASSES,
    EDITIONS as EDITIONS,
    METHODS as METHODS,
    SETTINGS as SETTINGS,
    Setting as Setting,
)
from .store.label_sets import LabelSet as LabelSet, label_sets as label_sets
from .store.pooch_adapter import create_pooch as create_pooch
from .store.registry import Artifact as Artifact, artifacts as artifacts
