import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from chexnet_fast.predictions import Predictions
from chexnet_fast.report import flatten, format_seconds, metrics_text, write_report
from chexnet_fast.score import write_scores
from shards.findings import NIH_FINDINGS

DESCRIPTION = {
    "config": {"recipe": "reference", "lr": 0.01, "size": None},
    "findings": list(NIH_FINDINGS),
    "data": {"shards": "build/<nih>", "dataset": "nih", "prevalence": {"Mass": 0.05}},
    "command": ["chexnet-fast", "train", "build/my shards", "build/run"],
    "environment": {"versions": {"torch": "2.4"}, "git_commit": None, "machine": {"gpus": []}},
}
LOG = pd.DataFrame(
    {"epoch": [1, 2, 3], "train_loss": [0.3, 0.2, 0.1], "val_loss": [0.3, 0.2, 0.25], "images_per_second": [10, 20, 20]}
)


class Page(HTMLParser):
    """Collect what the tests ask about a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.open_tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag == "img":
            self.images.append(values)
        if tag not in ("img", "meta"):
            self.open_tags.append(tag)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag == "a":
            self.links.append(str(values["href"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("evaluation")
    generator = np.random.default_rng(0)
    labels = (generator.random((40, len(NIH_FINDINGS))) < 0.4).astype(np.float32)
    labels[:, -1] = 0
    table = pd.DataFrame(labels, columns=NIH_FINDINGS)
    table["image_id"] = [f"{number}.png" for number in range(40)]
    table["patient_id"] = [str(number // 2) for number in range(40)]
    table["fold"] = ["train"] * 20 + ["val"] * 8 + ["test"] * 12
    predictions = Predictions(
        table["image_id"].tolist()[28:],
        None,
        generator.random((12, len(NIH_FINDINGS)), np.float32),
        labels[28:],
        NIH_FINDINGS,
    )
    scores = write_scores(predictions, table["patient_id"].to_numpy()[28:], out)
    heatmaps = {"1.png: Mass & more": out / "roc.png"}
    path = write_report(out, scores, "test", table, DESCRIPTION, LOG, heatmaps)
    assert path == out / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_page_is_whole_and_asks_for_nothing_outside(report: str) -> None:
    page = Page(report)
    assert page.open_tags == []
    assert not re.search(r"(?:src|href)=\"(?!data:image/png;base64,|#)", report)
    assert "url(" not in report
    assert "<script" not in report


def test_every_picture_is_inside_and_described(report: str) -> None:
    images = Page(report).images
    assert len(images) == 5
    for image in images:
        assert str(image["src"]).startswith("data:image/png;base64,iVBOR")
        assert len(str(image["alt"])) > 20
    assert str(images[-1]["alt"]).endswith("1.png: Mass & more")


def test_links_lead_to_headings(report: str) -> None:
    page = Page(report)
    assert page.links
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_page_says_what_was_run_and_what_has_no_auc(report: str) -> None:
    text = re.sub(r"<[^>]+>", " ", report)
    assert "Hernia: no AUC (0 positive and 12 negative images), left out of the mean" in text
    assert "6 patients, test fold" in text
    assert "lowest validation loss after epoch 2" in text
    assert "4 s" in text  # 20 images at 10, 20 and 20 a second
    assert "build/&lt;nih&gt;" in text
    assert "chexnet-fast train &#39;build/my shards&#39; build/run" in text
    assert "versions.torch" in text
    for finding in NIH_FINDINGS:
        assert finding.replace("_", " ") in text


def test_settings_keep_every_value() -> None:
    nested = {"a": 1, "b": {"c": [1, 2], "d": {"e": None}}, "f": [], "g": False}
    assert flatten(nested) == {"a": "1", "b.c": "1, 2", "b.d.e": "none", "f": "none", "g": "False"}


@pytest.mark.parametrize(
    ("seconds", "text"), [(45.4, "45 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")]
)
def test_durations_read_naturally(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_undefined_metrics_are_dashes_and_counts_are_whole() -> None:
    metrics = pd.DataFrame(
        {
            "label": ["Mass"],
            **dict.fromkeys(("f1", "recall", "mcc", "accuracy", "g_mean"), [0.25]),
            "precision": [np.nan],
            "num_positive": [1234],
            "num_predicted_positive": [0],
        }
    )
    assert metrics_text(metrics).iloc[0].tolist() == [
        "Mass", "0.250", "0.250", "–", "0.250", "0.250", "0.250", "1,234", "0",
    ]  # fmt: skip
