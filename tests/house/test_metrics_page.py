"""Does docs/metrics.md list exactly the metrics that a node has, and do its expressions name no others?"""

import re
from pathlib import Path

from aegis_replication.observability.metrics import METRICS

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (gauge|counter|histogram) \| (.*?) ?\| (.+) \|$", re.MULTILINE)


def test_the_page_lists_every_metric_with_its_kind_labels_and_meaning() -> None:
    listed = [row for row in ROW.findall(PAGE) if row[0].startswith("aegis_")]

    assert listed == [
        (each.name, each.kind, ", ".join(f"`{label}`" for label in each.labels), each.about) for each in METRICS
    ]


def test_expressions_on_the_page_name_metrics_that_are_there() -> None:
    series = {each.name for each in METRICS} | {
        f"{each.name}_{end}" for each in METRICS if each.kind == "histogram" for end in ("bucket", "sum", "count")
    }

    named = set(re.findall(r"\baegis_\w+", PAGE.partition("## Worth a look")[2]))

    assert len(named) > 3
    assert not named - series
