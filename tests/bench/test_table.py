"""Tables, and the files that keep them."""

import json
from pathlib import Path

from bench.record import Record, kind
from bench.table import markdown


def test_a_table_is_markdown_with_columns_of_one_width() -> None:
    assert markdown(["", "ms"], [["one", "1"], ["another", "1,000"]]).splitlines() == [
        "|         |    ms |",
        "| ------- | ----: |",
        "| one     |     1 |",
        "| another | 1,000 |",
    ]


def test_a_record_is_printed_and_kept_with_its_machine(tmp_path: Path) -> None:
    record = Record("something", "before")
    record.begin("Something")
    record.table("In ms:", ["", "ms"], [["one", "1"]])
    record.data["ms"] = [1]
    file = record.write(tmp_path)
    assert file.name == f"something-{kind(record.machine)}-before.json"
    kept = json.loads(file.read_text())
    assert kept["ms"] == [1]
    assert kept["machine"]["cores"] >= 1
    text = file.with_suffix(".md").read_text()
    assert text.startswith("## Something\n\n")
    assert "| one |  1 |" in text


def test_a_machine_with_a_gpu_is_called_by_it() -> None:
    assert kind({"gpus": ["NVIDIA H100 80GB HBM3, 81559 MiB"], "cores": 16}) == "nvidia-h100-80gb-hbm3"
    assert kind({"gpus": [], "cores": 2}) == "2-cores"
