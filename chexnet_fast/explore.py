"""Explore a shard folder: what its folds hold, as pictures, tables and a page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from chexnet_fast.explore_plots import MAX_AGE, plot_ages, plot_categories, plot_cooccurrence, plot_samples
from chexnet_fast.page import data_uri, flatten, write_page
from chexnet_fast.plots import display_name, plot_class_histogram, save_figure
from shards.errors import UserError
from shards.files import whole_file
from shards.findings import FOLDS
from shards.fold import open_fold, read_packed_table
from shards.manifest import Manifest, read_manifest

NUM_SAMPLES = 12
UNKNOWN = "unknown"
METADATA = {"age": "age", "sex": "sex", "view": "view position"}
"""The columns that are drawn where the table has them."""
PATIENT_BINS = {"1": 1, "2": 2, "3 to 4": 4, "5 to 9": 9, "10 to 19": 19, "20 or more": np.inf}
"""Images of a patient, by the greatest number in each bin."""


def explore(shards: Path, out: Path, seed: int = 0) -> Path:
    """Draw what the folds hold into the folder `out`: a PNG and a CSV each, and explore.html with all of it.

    Each fold has its findings, which of them come together, ages, sexes, views, images per patient, and sample images
    drawn from the seed. Unknown labels are counted as unknown. What the table does not tell is left out, and the page
    says so. The same shards and seed give the same tables and choose the same images.

    Returns:
        The path of explore.html, which needs no other file and no network.

    Raises:
        UserError: if the shards cannot be read or `out` cannot be written.
    """
    manifest = read_manifest(shards)
    table = read_packed_table(shards, manifest)
    table = table[table["fold"].isin(FOLDS)]
    folds = [fold for fold in FOLDS if manifest.counts[fold]]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}; give another folder") from error
    findings = _draw_findings(table, manifest.findings, out)
    _draw_cooccurrence(table, manifest.findings, folds, out)
    known = [column for column in METADATA if column in table and table[column].notna().any()]
    _draw_metadata(table, known, folds, out)
    _draw_images_per_patient(table, folds, out)
    _draw_samples(shards, manifest, folds, seed, out)
    per_fold = [f"{kind}-{fold}" for kind in ("cooccurrence", "samples") for fold in folds]
    path = out / "explore.html"
    write_page(
        path,
        dataset=manifest.dataset,
        folds=folds,
        headline=headline(table, folds, manifest.num_rejected),
        findings=findings_text(findings, folds),
        notes=notes(table, findings, known),
        pictures={name: data_uri(out / f"{name}.png") for name in ("findings", *known, "patients", *per_fold)},
        settings={"Where they come from": _described(shards, manifest)},
    )
    return path


def count_labels(table: pd.DataFrame, findings: Sequence[str]) -> pd.DataFrame:
    """Count the labels of each fold and finding.

    Args:
        table: a study table; labels are 1 positive, 0 negative, -1 uncertain, NaN unknown.
        findings: the findings to count.

    Returns:
        `fold`, `finding`, `num_positive`, `num_negative`, `num_uncertain`, `num_unknown`, and `share`: the positives
        of the positives and negatives, NaN where there are none. Folds without images are left out.
    """
    parts = []
    for fold in FOLDS:
        labels = table.loc[table["fold"] == fold, list(findings)]
        if labels.empty:
            continue
        positive, negative = (labels == 1).sum(), (labels == 0).sum()
        parts.append(
            pd.DataFrame(
                {
                    "fold": fold,
                    "finding": list(findings),
                    "num_positive": positive.to_numpy(),
                    "num_negative": negative.to_numpy(),
                    "num_uncertain": (labels == -1).sum().to_numpy(),
                    "num_unknown": labels.isna().sum().to_numpy(),
                    "share": (positive / (positive + negative)).to_numpy(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def count_together(table: pd.DataFrame, findings: Sequence[str]) -> pd.DataFrame:
    """Count the images that are positive for both of two findings: (F, F) int, findings as index and columns."""
    positive = (table[list(findings)].to_numpy() == 1).astype(np.int64)
    return pd.DataFrame(positive.T @ positive, index=list(findings), columns=list(findings))


def count_categories(table: pd.DataFrame, column: str, folds: Sequence[str]) -> pd.DataFrame:
    """Count the images of each fold by a column's values, the commonest first; empty ones count as unknown.

    Returns:
        Values as index, folds as columns, int.
    """
    values = table[column].fillna(UNKNOWN)
    counts = pd.crosstab(values, table["fold"]).reindex(columns=list(folds), fill_value=0)
    return counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]


def findings_text(counts: pd.DataFrame, folds: Sequence[str]) -> pd.DataFrame:
    """Format what `count_labels` returns for people: a row a finding, the commonest first, and a column a fold."""
    by_finding = counts.groupby("finding", sort=False)[["num_positive", "num_uncertain", "num_unknown"]].sum()
    order = by_finding.sort_values("num_positive", ascending=False, kind="stable").index
    text = pd.DataFrame({"Finding": [display_name(finding) for finding in order]})
    for fold in folds:
        rows = counts[counts["fold"] == fold].set_index("finding").loc[order]
        shares = ["–" if np.isnan(share) else f"{share:.1%}" for share in rows["share"]]
        text[fold] = [f"{count:,} ({share})" for count, share in zip(rows["num_positive"], shares, strict=True)]
    for column, name in {"num_uncertain": "Uncertain", "num_unknown": "Unknown"}.items():
        if by_finding[column].any():
            text[name] = [f"{count:,}" for count in by_finding.loc[order, column]]
    return text


def headline(table: pd.DataFrame, folds: Sequence[str], num_rejected: int) -> dict[str, tuple[str, str]]:
    """Return the page's first figures: by name, a value and a line that explains it."""
    rejected = f", {num_rejected:,} rejected" if num_rejected else ""
    figures = {"Images": (f"{len(table):,}", f"{table['patient_id'].nunique():,} patients{rejected}")}
    for fold in folds:
        rows = table[table["fold"] == fold]
        detail = f"{len(rows) / len(table):.1%}, {rows['patient_id'].nunique():,} patients"
        figures[f"Fold {fold}"] = (f"{len(rows):,}", detail)
    return figures


def notes(table: pd.DataFrame, findings: pd.DataFrame, known: Sequence[str]) -> list[str]:
    """Return what a reader of the pictures has to know: what is not drawn, and how many labels are not known."""
    missing = [name for column, name in METADATA.items() if column not in known]
    texts = [f"The labels do not tell the {name}: it is not drawn." for name in missing]
    for column, name in {"num_uncertain": "uncertain", "num_unknown": "unknown"}.items():
        if total := findings[column].sum():
            texts.append(f"{total:,} labels are {name}; shares are of the images whose label is positive or negative.")
    if "age" in known:
        too_old = f"an age above {MAX_AGE} years"
        for count, what in ((table["age"].isna().sum(), "no age"), ((table["age"] > MAX_AGE).sum(), too_old)):
            if count:
                texts.append(f"{count:,} images have {what}: they are in age.csv, but not in its picture.")
    return texts


def _draw_findings(table: pd.DataFrame, findings: Sequence[str], out: Path) -> pd.DataFrame:
    counts = count_labels(table, findings)
    _write_csv(counts, out / "findings.csv")
    labels = table[list(findings)]
    known = table.assign(**labels.where(labels >= 0))  # an uncertain label counts as unknown
    save_figure(plot_class_histogram(known, findings), out / "findings.png")
    return counts


def _draw_cooccurrence(table: pd.DataFrame, findings: Sequence[str], folds: Sequence[str], out: Path) -> None:
    parts = []
    for fold in folds:
        counts = count_together(table[table["fold"] == fold], findings)
        save_figure(plot_cooccurrence(counts, f"{fold}: findings that come together"), out / f"cooccurrence-{fold}.png")
        parts.append(counts.rename_axis("finding").reset_index().assign(fold=fold))
    _write_csv(pd.concat(parts)[["fold", "finding", *findings]], out / "cooccurrence.csv")


def _draw_metadata(table: pd.DataFrame, columns: Sequence[str], folds: Sequence[str], out: Path) -> None:
    for column in columns:
        if column == "age":
            figure = plot_ages({fold: table.loc[table["fold"] == fold, "age"] for fold in folds})
        else:
            counts = count_categories(table, column, folds)
            figure = plot_categories(counts, METADATA[column].capitalize(), "images of the fold")
        save_figure(figure, out / f"{column}.png")
        _write_csv(_count_values(table, column, folds, "num_images"), out / f"{column}.csv")


def _draw_images_per_patient(table: pd.DataFrame, folds: Sequence[str], out: Path) -> None:
    sizes = table.groupby(["fold", "patient_id"]).size().rename("num_images").reset_index()
    _write_csv(_count_values(sizes, "num_images", folds, "num_patients"), out / "patients.csv")
    bins = pd.cut(sizes["num_images"], [0, *PATIENT_BINS.values()], labels=list(PATIENT_BINS))
    counts = pd.crosstab(bins, sizes["fold"]).reindex(columns=list(folds), fill_value=0)
    save_figure(plot_categories(counts, "Images per patient", "patients of the fold"), out / "patients.png")


def _draw_samples(shards: Path, manifest: Manifest, folds: Sequence[str], seed: int, out: Path) -> None:
    parts = []
    for fold in folds:
        opened = open_fold(shards, manifest, fold)
        generator = np.random.Generator(np.random.Philox(seed))
        chosen = opened.take(np.sort(generator.choice(len(opened), min(NUM_SAMPLES, len(opened)), replace=False)))
        captions = [_caption(row, manifest.findings) for row in chosen.table[list(manifest.findings)].to_numpy()]
        images = [chosen.image(position) for position in range(len(chosen))]
        names = list(chosen.table["image_id"])
        save_figure(plot_samples(images, captions, names), out / f"samples-{fold}.png")
        parts.append(pd.DataFrame({"fold": fold, "image_id": names, "findings": captions}))
    _write_csv(pd.concat(parts), out / "samples.csv")


def _caption(labels: np.ndarray, findings: Sequence[str]) -> str:
    """Name the positive findings of an image; where there is none, tell what is known from what is not."""
    positive = [display_name(finding) for finding, label in zip(findings, labels, strict=True) if label == 1]
    return ", ".join(positive) or ("No finding" if (labels == 0).all() else "No known finding")


def _count_values(table: pd.DataFrame, column: str, folds: Sequence[str], number: str) -> pd.DataFrame:
    """Count each fold's rows by a column's values, in ascending order; an empty value, the last, is unknown."""
    counts = table.groupby(["fold", column], dropna=False).size().rename(number).reset_index()
    return pd.concat([counts[counts["fold"] == fold] for fold in folds])


def _described(shards: Path, manifest: Manifest) -> dict[str, str]:
    """Return the manifest as text by name, without what the page shows elsewhere."""
    fields = ("codec", "quality", "size", "table", "labels", "split", "images", "seed")
    return {"shards": str(shards), **flatten({name: getattr(manifest, name) for name in fields})}


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with whole_file(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
