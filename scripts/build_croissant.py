"""Write croissant.json from registry/; with --check, only compare.

    python scripts/build_croissant.py
    python scripts/build_croissant.py --check

The file describes label sets and artifacts in the format Croissant 1.1, with its fields of
responsible AI (RAI), so that search engines and loaders find each file, its checksum and licence.
Arrays and pickles are listed as files only: Croissant has no reader for them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import cifar_noisy
from cifar_noisy import Artifact
from cifar_noisy.store.artifact_store import PUBLIC_HOSTS
from cifar_noisy.store.registry import all_artifacts

FILE = Path(__file__).parents[1] / "croissant.json"
UPSTREAM = "https://github.com/cgnorthcutt/confidentlearning-reproduce"
LICENCES = {
    "MIT": "https://spdx.org/licenses/MIT.html",
    "Apache-2.0": "https://spdx.org/licenses/Apache-2.0.html",
    "AGPL-3.0": "https://spdx.org/licenses/AGPL-3.0-only.html",
    "CC BY-NC 4.0": "https://spdx.org/licenses/CC-BY-NC-4.0.html",
    "CC BY-NC-SA 4.0": "https://spdx.org/licenses/CC-BY-NC-SA-4.0.html",
}
FORMATS = {
    ".csv": "text/csv", ".gz": "application/gzip", ".json": "application/json",
    ".log": "text/plain", "": "text/plain",
}  # fmt: skip

CROISSANT_TERMS = (
    "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field",
    "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset",
    "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated",
    "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
} | {term: f"cr:{term}" for term in CROISSANT_TERMS}

CITATION = (
    "@article{northcutt2021confident, "
    "title={Confident Learning: Estimating Uncertainty in Dataset Labels}, "
    "author={Northcutt, Curtis G. and Jiang, Lu and Chuang, Isaac L.}, "
    "journal={Journal of Artificial Intelligence Research}, volume={70}, pages={1373--1411}, "
    "year={2021}, doi={10.1613/jair.1.12125}}"
)

RESPONSIBLE_AI: dict[str, Any] = {
    "rai:dataCollection": (
        "The images and true labels are those of CIFAR-10 (Krizhevsky 2009) and are not collected "
        "anew. The paper's given labels were drawn from noise matrices with a fixed seed. The "
        "label sets of other repositories were drawn by their authors' programs, or given by "
        "people (CIFAR-10N). Probabilities, masks and logs are outputs of trained networks."
    ),
    "rai:dataCollectionType": ["Software Collection", "Crowdsourcing", "Experiments"],
    "rai:dataCollectionMissingData": (
        "Noise 0.9 has labels and noise matrices only. Noise 0 exists at sparsity 0 only. One "
        "training log of the paper is empty where it was published (noise 0.2, sparsity 0.6, "
        "cl_both). The full-precision probabilities behind the masks of edition 2019 were never "
        "released."
    ),
    "rai:dataPreprocessingProtocol": [
        "Files are served as published, byte for byte. The probabilities are the first ten columns "
        "of softmax outputs with 1000 columns, rounded to float16, so rows sum to 0.986 to 1.0."
    ],
    "rai:dataAnnotationProtocol": [
        "CIFAR-10N: three people labelled each train image; random1 to random3 are their labels, "
        "aggregate is the majority, worst is a wrong one where there is any. All other label sets "
        "are drawn by programs."
    ],
    "rai:dataAnnotationPlatform": ["Amazon Mechanical Turk, for CIFAR-10N and the test labels"],
    "rai:annotationsPerItem": (
        "3 for CIFAR-10N; 1 draw for the synthetic label sets; 47 to 63 for each test image of "
        "CIFAR-10H; 5 for the 275 suspects of cleanlab's label errors."
    ),
    "rai:annotatorDemographics": ["Not known to this package; see the publications of each set."],
    "rai:machineAnnotationTools": ["cleanlab 0.1 for the masks; ResNet-50 for the probabilities"],
    "rai:dataBiases": [
        "At sparsity 0.2, 0.4 and 0.6 that share of off-diagonal noise rates is zero by design. "
        "Labels drawn from a matrix depend on the true class only, not on what the image shows.",
        "The original experiment chose its best checkpoint on the test set.",
    ],
    "rai:dataUseCases": [
        "Comparison of methods that find label errors or learn with label noise, and reproduction "
        "of the paper's tables."
    ],
    "rai:dataLimitations": [
        "Directory names of the files lie: noise key 0_6 is 70 % noise and 0_8 is 90 %.",
        "train_mask is True for examples to keep, though the original README says the opposite.",
        "Two editions of the masks differ in up to 26 of 50,000 bits.",
        "CIFAR-10's own labels, which count as true, have errors themselves.",
        "Results on synthetic noise need not carry over: human labels rank the methods otherwise.",
    ],
    "rai:dataSocialImpact": "None known beyond that of CIFAR-10.",
    "rai:personalSensitiveInformation": [
        "None in labels, masks and probabilities. The photographs of CIFAR-10 come from the web; "
        "their classes are vehicles and animals."
    ],
    "rai:dataReleaseMaintenancePlan": (
        "Files are pinned by revision and sha256 and do not change. A set that is added or "
        "withdrawn is told in CHANGELOG.md of the package."
    ),
}  # fmt: skip


def metadata() -> dict[str, Any]:
    """Return the description of all published files."""
    found = all_artifacts()
    stated = sorted({artifact.licence for artifact in found})
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.1",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": "cifar-noisy",
        "description": (
            "CIFAR-10 with noisy labels: given labels, noise matrices, out-of-sample predicted "
            "probabilities, train masks and training logs of the paper Confident Learning, and "
            "label sets of other repositories. The python package cifar-noisy checks each file and "
            "lines it up with the images. Each file has the licence that its own repository "
            f"states: {', '.join(stated)}."
        ),
        "url": UPSTREAM,
        "version": cifar_noisy.__version__,
        "license": [LICENCES[name] for name in stated if name in LICENCES],
        "citeAs": CITATION,
        "keywords": ["label noise", "noisy labels", "confident learning", "CIFAR-10", "benchmark"],
        "creator": [
            {"@type": "sc:Person", "name": name}
            for name in ("Curtis G. Northcutt", "Lu Jiang", "Isaac L. Chuang")
        ],
        **RESPONSIBLE_AI,
        "distribution": [file_object(artifact) for artifact in found],
        "recordSet": [label_sets()],
    }


def file_object(artifact: Artifact) -> dict[str, Any]:
    urls = artifact.urls or (PUBLIC_HOSTS[0].url(artifact),)
    words = [f"{artifact}; licence: {artifact.licence}"]
    if artifact.shape:
        words.append(f"{artifact.dtype} array of shape {artifact.shape}")
    return {
        "@type": "cr:FileObject",
        "@id": artifact.path,
        "name": artifact.path,
        "description": "; ".join(words),
        "contentUrl": urls[0],
        "contentSize": f"{artifact.size} B",
        "encodingFormat": FORMATS.get(Path(artifact.path).suffix, "application/octet-stream"),
        "sha256": artifact.sha256,
    }


def label_sets() -> dict[str, Any]:
    """Return the table of label sets, whose rows are in the file itself."""
    fields = {
        "name": "sc:Text", "noise_rate": "sc:Float", "noise_kind": "sc:Text", "file": "sc:Text",
        "array_sha256": "sc:Text", "licence": "sc:Text", "citation": "sc:Text",
    }  # fmt: skip
    rows = [
        {
            "name": known.name,
            "noise_rate": known.noise_rate,
            "noise_kind": known.noise_kind,
            "file": known.path,
            "array_sha256": known.array_sha256,
            "licence": known.licence,
            "citation": known.citation,
        }
        for known in cifar_noisy.label_sets()
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "label_sets",
        "name": "label_sets",
        "description": "The label sets by name; noise_rate is the share of labels that are wrong.",
        "key": {"@id": "label_sets/name"},
        "field": [
            {"@type": "cr:Field", "@id": f"label_sets/{name}", "name": name, "dataType": kind}
            for name, kind in fields.items()
        ],
        "data": [{f"label_sets/{name}": row[name] for name in fields} for row in rows],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 if croissant.json differs")
    is_check = parser.parse_args().check
    new = json.dumps(metadata(), indent=1, ensure_ascii=False) + "\n"
    is_equal = FILE.is_file() and FILE.read_text("utf-8") == new
    if not is_check:
        FILE.write_text(new, "utf-8")
    print("equal" if is_equal else f"{FILE.name} {'differs' if is_check else 'written'}")
    return 1 if is_check and not is_equal else 0


if __name__ == "__main__":
    raise SystemExit(main())
