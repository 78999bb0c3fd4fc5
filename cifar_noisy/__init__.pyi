__version__: str

from . import (
    plot as plot,
)
from .agreement import (
    Comparison as Comparison,
)
from .agreement import (
    compare_recomputed as compare_recomputed,
)
from .alignment import (
    Alignment as Alignment,
)
from .alignment import (
    check_alignment as check_alignment,
)
from .batching import (
    batches as batches,
)
from .confident_learning import (
    confident_joint as confident_joint,
)
from .confident_learning import (
    estimate_joint as estimate_joint,
)
from .confident_learning import (
    estimate_noise_matrix as estimate_noise_matrix,
)
from .confident_learning import (
    label_errors as label_errors,
)
from .dataset import (
    NoisyCIFAR10 as NoisyCIFAR10,
)
from .errors import (
    BundleError as BundleError,
)
from .errors import (
    CifarNoisyError as CifarNoisyError,
)
from .errors import (
    CifarNoisyWarning as CifarNoisyWarning,
)
from .errors import (
    ConfigurationError as ConfigurationError,
)
from .errors import (
    CorruptFileWarning as CorruptFileWarning,
)
from .errors import (
    ImagesError as ImagesError,
)
from .errors import (
    InterruptedRunError as InterruptedRunError,
)
from .errors import (
    InvalidInputError as InvalidInputError,
)
from .errors import (
    MissingExtraError as MissingExtraError,
)
from .errors import (
    MissingInputError as MissingInputError,
)
from .errors import (
    ReadOnlyError as ReadOnlyError,
)
from .errors import (
    RecomputeError as RecomputeError,
)
from .errors import (
    StorageError as StorageError,
)
from .errors import (
    SuspectMaskWarning as SuspectMaskWarning,
)
from .errors import (
    TrainingLogError as TrainingLogError,
)
from .errors import (
    TruncatedLogWarning as TruncatedLogWarning,
)
from .errors import (
    UnavailableError as UnavailableError,
)
from .errors import (
    UnknownArtifactError as UnknownArtifactError,
)
from .evaluation import (
    Detection as Detection,
)
from .evaluation import (
    Evaluation as Evaluation,
)
from .evaluation import (
    Fit as Fit,
)
from .evaluation import (
    PyxEvaluation as PyxEvaluation,
)
from .evaluation import (
    Ranking as Ranking,
)
from .evaluation import (
    evaluate as evaluate,
)
from .evaluation import (
    evaluate_published as evaluate_published,
)
from .evaluation import (
    evaluate_pyx as evaluate_pyx,
)
from .images import (
    Images as Images,
)
from .images import (
    load_images as load_images,
)
from .images import (
    write_images as write_images,
)
from .loaders import (
    cache_folder as cache_folder,
)
from .loaders import (
    cached_path as cached_path,
)
from .loaders import (
    download as download,
)
from .loaders import (
    load_label_errors as load_label_errors,
)
from .loaders import (
    load_noise_matrix as load_noise_matrix,
)
from .loaders import (
    load_noisy_labels as load_noisy_labels,
)
from .loaders import (
    load_train_mask as load_train_mask,
)
from .loaders import (
    load_training_log as load_training_log,
)
from .loaders import (
    load_true_labels as load_true_labels,
)
from .probabilities import (
    load_pyx as load_pyx,
)
from .registry import (
    Artifact as Artifact,
)
from .registry import (
    artifacts as artifacts,
)
from .report.published import (
    write_report as write_report,
)
from .scores import (
    label_error_scores as label_error_scores,
)
from .settings import (
    CLASSES as CLASSES,
)
from .settings import (
    EDITIONS as EDITIONS,
)
from .settings import (
    METHODS as METHODS,
)
from .settings import (
    SETTINGS as SETTINGS,
)
from .settings import (
    Setting as Setting,
)
from .tables import (
    Table as Table,
)
from .tables import (
    accuracy_of_log as accuracy_of_log,
)
from .tables import (
    accuracy_table as accuracy_table,
)
from .tables import (
    format_tables as format_tables,
)
from .tables import (
    label_error_table as label_error_table,
)
from .tables import (
    paper_tables as paper_tables,
)
from .training_logs import (
    TrainingLog as TrainingLog,
)
from .training_logs import (
    parse_training_log as parse_training_log,
)
from .verification import (
    Check as Check,
)
from .verification import (
    Difference as Difference,
)
from .verification import (
    verify as verify,
)
