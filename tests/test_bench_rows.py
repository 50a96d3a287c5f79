"""The loader report's rows as files, text, chart and page."""

from PIL import Image

from bench.loader_report import plot_rows, write_loader_report
from bench.measure import Rate
from bench.rows import Row, format_rows, read_rows, write_rows

ROWS = [
    Row("reference", "PIL DataLoader, originals", None, None, 3, "float32", Rate(125.0, 118.0, 137.0), 1.0, 0.0031),
    Row("ours", "DALI cpu", "raw", 224, 1, "uint8", Rate(53069.0, 52000.0, 54000.0), 424.55, 0.114),
    Row("ours", "DALI cpu", "jpeg", None, 1, "uint8", Rate(3784.0, 3700.0, 3800.0), 30.27, 0.0081),
    Row("limit", "memory copy", None, 224, 1, "uint8", Rate(466121.0, 460000.0, 470000.0), 3728.97, 1.0),
    Row("peer", "LitData", note="not installed (No module named 'litdata')"),
]
ENVIRONMENT = {"date": "2025-01-01", "machine": {"cpu": "a CPU", "gpus": []}, "versions": {"torch": "2.4"}}


def test_rows_come_back_as_they_were_written_each_with_its_environment(tmp_path):
    write_rows(ROWS, ENVIRONMENT, tmp_path / "loaders.jsonl")
    assert read_rows(tmp_path / "loaders.jsonl") == (ROWS, ENVIRONMENT)
    assert (tmp_path / "loaders.jsonl").read_text().count('"cpu": "a CPU"') == len(ROWS)


def test_the_table_says_what_was_read_and_yielded_and_what_was_not_measured():
    assert format_rows(ROWS).splitlines()[2:] == [
        "| PIL DataLoader, originals | files | RGB float32 | 125 (118 - 137) | 1.0 | 0.3% |",
        "| DALI cpu | raw 224 | grey uint8 | 53,069 (52,000 - 54,000) | 424.6 | 11% |",
        "| DALI cpu | jpeg original | grey uint8 | 3,784 (3,700 - 3,800) | 30.3 | 0.8% |",
        "| memory copy |  | grey uint8 | 466,121 (460,000 - 470,000) | 3,729.0 | 100% |",
        "| LitData |  |  | not installed (No module named 'litdata') |  |  |",
    ]


def test_the_chart_has_a_panel_for_each_output_and_a_bar_for_each_measured_row():
    panels = plot_rows(ROWS).axes
    assert [panel.get_title(loc="left") for panel in panels] == ["RGB float32", "grey uint8"]
    names = [[label.get_text() for label in panel.get_yticklabels()] for panel in panels]
    assert names == [
        ["PIL DataLoader, originals, files"],
        ["DALI cpu, raw 224", "DALI cpu, jpeg original", "memory copy"],
    ]
    assert all(panel.get_xscale() == "log" for panel in panels)


def test_the_page_is_whole_in_one_file(tmp_path):
    write_loader_report(ROWS, ENVIRONMENT, tmp_path)
    page = (tmp_path / "loaders.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert 'src="http' not in page and 'href="http' not in page
    for text in ("53,069 img/s", "424.6 times the reference", "not installed", "a CPU"):
        assert text in page
    assert Image.open(tmp_path / "loaders.png").width > 1000


def test_the_report_leaves_its_files_and_no_other(tmp_path):
    write_loader_report(ROWS, ENVIRONMENT, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"loaders.jsonl", "loaders.md", "loaders.png", "loaders.html"}
