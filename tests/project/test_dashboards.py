"""The Grafana dashboard and the alert rules: what they ask for is there."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mmsclient import OutcomeUnknownError, TokenBucket
from mmsclient.limiter import NoLimit
from mmsclient.observe import SaturationBegan, SaturationEnded
from mmsclient.observe.prometheus import PrometheusObserver
from mmsclient.outbox import Outbox
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import CutConnection, Respond
from mmsclient.webhooks import CallbackReceiver
from tests.conftest import PNG
from tests.support.callbacks import TOKEN, status
from tests.support.campaigns import campaign, numbers

FOLDER = Path(__file__).parent.parent.parent / "docs" / "dashboards"
RULES = FOLDER / "alerts.yml"
DASHBOARD = FOLDER / "grafana.json"
PROMTOOL = shutil.which("promtool")

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool, of Debian's package prometheus")


def queries() -> Iterator[tuple[str, str]]:
    """What the dashboard asks, by panel, with Grafana's variables as it fills them in."""
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for number, target in enumerate(panel.get("targets", ())):
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$__range", "3h")
            yield f"{panel['title']} {number + 1}", expression.replace("$instance", ".*")


def rules() -> Iterator[tuple[str, str]]:
    """The expressions of the alert rules, by their names."""
    text = RULES.read_text(encoding="utf-8")
    for name, first, more in re.findall(r"- alert: (\w+)\n +expr: (.*)\n((?: {10,}.*\n)*)", text):
        yield name, more if first == "|" else first


QUERIES = [*queries(), *rules()]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a process tells Prometheus that has sent, failed, and received."""
    folder = tmp_path_factory.mktemp("stores")
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)

    async def main() -> None:
        with Sandbox(rate=None, magic=False) as api:
            async with api.client(limiter=TokenBucket(1000), observer=observer) as mms:
                with api.faults.add(Respond(429, headers={"retry-after": "0"}), times=1):
                    await mms.account()
                with api.faults.add(CutConnection()), pytest.raises(OutcomeUnknownError):
                    await mms.send(to=numbers(1), text="Sale on now", image=PNG)
                await campaign(mms, None).send_all(numbers(30))
                await campaign(mms, None, image=lambda fields: PNG).send_all(numbers(2))
                async with Outbox(mms, folder / "outbox.db") as outbox:
                    await outbox.put(key="order-1", to=numbers(1), text="Ready", image=PNG)
                    assert await outbox.result("order-1", timeout=60)
            async with api.client(limiter=NoLimit(), observer=observer, ledger=folder / "sends.db") as mms:
                for _ in range(2):
                    await mms.send(to=numbers(1), text="Sale on now", image=PNG, key="order-1")
        async with CallbackReceiver(token=TOKEN, timeout=0.05, observer=observer) as receiver:
            await status(receiver, {"from": "61412345678", "body": "Yes", "message_id": "1"})

    asyncio.run(main())
    observer(SaturationBegan(kind="delivery_report"))
    observer(SaturationEnded(kind="delivery_report", seconds=1.0))
    return generate_latest(registry).decode()


@pytest.fixture(scope="module")
def labels(output: str) -> dict[str, set[str]]:
    """The labels of each sample's name."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(output):
        for sample in family.samples:
            found.setdefault(sample.name, {"instance", "job"}).update(sample.labels)
    return found


def test_there_are_queries() -> None:
    assert len(list(rules())) == RULES.read_text(encoding="utf-8").count("alert:") >= 9
    assert len(list(queries())) >= 20


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_all_that_is_asked_for_is_in_real_output(where: str, query: str, labels: dict[str, set[str]]) -> None:
    names = re.findall(r"\bmmsclient_\w+", query)
    assert names
    assert set(names) <= labels.keys()
    for name, matchers in re.findall(r"\b(mmsclient_\w+)\{([^}]*)\}", query):
        assert set(re.findall(r'(\w+)(?:=~|!=|!~|=)"', matchers)) <= labels[name], name
    every = set.union(*(labels[name] for name in names))
    for grouped in re.findall(r"\bby \(([^)]*)\)", query):
        assert set(grouped.replace(" ", "").split(",")) <= every


def promtool(*arguments: str, given: str | None = None) -> str:
    assert PROMTOOL is not None
    ended = subprocess.run([PROMTOOL, *arguments], input=given, capture_output=True, text=True, check=False)  # noqa: S603
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@needs_promtool
def test_promtool_takes_the_rules_and_they_fire_for_their_reasons(tmp_path: Path) -> None:
    promtool("check", "rules", str(RULES))
    cases = tmp_path / "cases.yml"
    cases.write_text((Path(__file__).parent / "alerts.yml").read_text().replace("RULES", json.dumps(str(RULES))))
    promtool("test", "rules", str(cases))


@needs_promtool
def test_promtool_takes_the_queries_of_the_dashboard_and_the_output(tmp_path: Path, output: str) -> None:
    records = [{"record": f"query:{number}", "expr": query} for number, (_, query) in enumerate(queries())]
    document: dict[str, Any] = {"groups": [{"name": "dashboard", "rules": records}]}
    path = tmp_path / "queries.json"
    path.write_text(json.dumps(document))  # which is YAML
    promtool("check", "rules", str(path))
    promtool("check", "metrics", given=output)
