"""The observed shop with all that it needs, on one machine and without containers.

    python observed_stack.py

Starts redis-server, a PostgreSQL cluster, the sandbox in place of the API, the web process, three workers, and, where
it is installed, Prometheus with the alert rules. Ctrl-C ends all of it.

Needs: pip install 'mmsclient[all]' fastapi opentelemetry-sdk opentelemetry-exporter-otlp-proto-http;
Debian's redis-server, postgresql and prometheus.
"""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from mmsclient.sandbox import Sandbox
from mmsclient.webhooks import new_token

SERVICE = Path(__file__).with_name("observed_service.py")
RULES = Path(__file__).parent.parent / "dashboards" / "alerts.yml"
WORKERS = 3


class Stack(NamedTuple):
    """What runs."""

    api: Sandbox
    web: str
    workers: list[str]
    prometheus: Path
    """Its configuration."""


@contextmanager
def running(
    folder: Path, *, web_port: int = 8000, metrics_port: int = 9101, traces: str | None = None
) -> Iterator[Stack]:
    """All of it. With a port of 0 free ones are taken.

    Args:
        folder: An empty one with a short path, for data, sockets and logs.
        web_port: Of the web process.
        metrics_port: Of the first worker; the others have the next ones.
        traces: URL of a collector.
    """
    with ExitStack() as stack:
        database, redis = stack.enter_context(postgres(folder)), stack.enter_context(redis_server(folder))
        api = stack.enter_context(Sandbox())
        token = new_token()
        environment = os.environ | {
            "DATABASE": database,
            "REDIS": redis,
            "MMSCLIENT_APP_KEY": api.app_key,
            "MMSCLIENT_BASE_URL": api.url,
            "MMSCLIENT_CALLBACK_TOKEN": token,
        }
        if traces is not None:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = traces
        ports = {"web": web_port} | {f"worker-{n}": metrics_port and metrics_port + n for n in range(WORKERS)}
        services = [stack.enter_context(service(name, port, folder, environment)) for name, port in ports.items()]
        web, *workers = [url_of(each) for each in services]
        api.settings.callback_url = f"{web}/mms/{token}"
        yield Stack(api, web, workers, scraped(folder, [web, *workers]))


def service(
    name: str, port: int, folder: Path, environment: dict[str, str]
) -> AbstractContextManager[subprocess.Popen[str]]:
    """A process of the shop."""
    command = [sys.executable, str(SERVICE), name.partition("-")[0], str(port)]
    return started(command, folder / f"{name}.log", stdout=subprocess.PIPE, env=environment, text=True)


def url_of(process: subprocess.Popen[str]) -> str:
    """What a process of the shop says first."""
    assert process.stdout is not None
    if not (url := process.stdout.readline().strip()):
        raise RuntimeError("a part of the shop did not start; see its log")
    return url


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A Redis of our own, which keeps nothing. Its URL."""
    path = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    with started(command, folder / "redis.log") as process:
        wait_for(path.exists, process, folder / "redis.log")
        yield f"unix://{path}"


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL cluster of our own. The URL of its database."""
    places = [os.environ["PATH"], *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]
    initdb = shutil.which("initdb", path=os.pathsep.join(places))
    if initdb is None:
        raise RuntimeError("there is no PostgreSQL")
    home, programs, log = folder / "postgres", Path(initdb).resolve().parent, folder / "postgres.log"
    home.mkdir()
    options: dict[str, Any] = {"cwd": home}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        folder.chmod(0o711)
        os.chown(home, user.pw_uid, user.pw_gid)
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data = str(home / "data")
    with started([initdb, "-D", data, "-U", "shop", "-A", "trust", "--no-sync"], log, **options) as making:
        making.wait()
    command = [str(programs / "postgres"), "-D", data, "-k", str(home), "-c", "listen_addresses="]
    ready = [str(programs / "pg_isready"), "-q", "-h", str(home)]
    with started(command, log, end=signal.SIGINT, **options) as process:  # at once, not when all clients have left
        wait_for(lambda: subprocess.run(ready, check=False).returncode == 0, process, log)
        yield f"postgresql://shop@/postgres?host={home}"


@contextmanager
def started(
    command: list[str], log: Path, *, end: signal.Signals = signal.SIGTERM, **options: Any
) -> Iterator[subprocess.Popen[Any]]:
    """A process, which ends with this. Ctrl-C is for this script alone, which ends the others in their order."""
    with log.open("a") as file:
        streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file, **options}
        with subprocess.Popen(command, process_group=0, **streams) as process:
            try:
                yield process
            finally:
                process.send_signal(end)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()


def wait_for(is_ready: Callable[[], bool], process: subprocess.Popen[Any], log: Path) -> None:
    """Until a server is ready."""
    while not is_ready():
        if process.poll() is not None:
            raise RuntimeError(f"it did not start:\n{log.read_text()}")
        time.sleep(0.05)


def scraped(folder: Path, urls: list[str]) -> Path:
    """A configuration of Prometheus (JSON is YAML) that scrapes these."""
    targets = [url.removeprefix("http://") for url in urls]
    path = folder / "prometheus.yml"
    path.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
                "rule_files": [str(RULES)],
                "scrape_configs": [{"job_name": "shop", "static_configs": [{"targets": targets}]}],
            }
        )
    )
    return path


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="shop-") as name, ExitStack() as stack:
        folder = Path(name)
        shop = stack.enter_context(running(folder, traces=os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")))
        print(f"The shop: {shop.web}/docs\nMetrics: {shop.web}/metrics", *(f"{url}/metrics" for url in shop.workers))
        if prometheus := shutil.which("prometheus"):
            command = [prometheus, f"--config.file={shop.prometheus}", f"--storage.tsdb.path={folder / 'metrics'}"]
            stack.enter_context(started(command, folder / "prometheus.log"))
            print("Prometheus: http://127.0.0.1:9090/alerts")
        print("Ctrl-C ends it.")
        signal.pause()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with suppress(KeyboardInterrupt):
        main()
