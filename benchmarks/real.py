"""Real limiters as servers: nginx and haproxy, started here on loopback, behind the network and before the API."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median

from attrs import frozen

from benchmarks.cap import CALLS, side_by_side
from benchmarks.contenders import CONTENDERS, OURS
from benchmarks.report import Goal, Options, Report, Table
from benchmarks.server import HOST, Certificate, Setting
from tests.support.counting import used

MODELS = ("none", "uniform")
PROGRAMS = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"

HAPROXY = """
defaults
    mode http
    option http-buffer-request
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend api
    bind {host}:{port} ssl crt {pem}
    stick-table type ip size 1k expire 10s store http_req_rate(1s)
    http-request track-sc0 src
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 15 }}
    default_backend origin
backend origin
    server origin {host}:{origin}
"""

NGINX = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 1000; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    limit_req_zone $server_name zone=api:1m rate=15r/s;
    limit_req_status 429;
    server {{
        listen {host}:{port} ssl;
        server_name api;
        ssl_certificate {pem};
        ssl_certificate_key {pem};
        keepalive_requests 100000;
        location / {{
            limit_req zone=api {burst};
            proxy_pass http://{host}:{origin};
            proxy_http_version 1.1;
        }}
    }}
}}
"""


@frozen
class Limiting:
    """A server that limits."""

    title: str
    program: str
    configuration: str
    most: int
    """429s of 300 calls that our client may meet."""
    burst: str = ""

    def command(self, path: str, file: Path) -> list[str]:
        return [path, "-db", "-f", str(file)] if self.program == "haproxy" else [path, "-c", str(file)]


SERVERS = (
    Limiting("haproxy http_req_rate(1s) gt 15", "haproxy", HAPROXY, most=0),
    Limiting("nginx limit_req 15r/s", "nginx", NGINX, most=8),
    Limiting("nginx limit_req 15r/s burst=15 nodelay", "nginx", NGINX, most=0, burst="burst=15 nodelay"),
)


def run(options: Options) -> Report:
    report = Report("real")
    calls = options.calls or CALLS
    for limiting in SERVERS:
        path = shutil.which(limiting.program, path=PROGRAMS)
        if path is None:
            report.notes.append(f"{limiting.title}: skipped, {limiting.program} is not installed")
            continue
        counts: dict[str, dict[str, list[tuple[int, float]]]] = {}
        for model in MODELS:
            for number in range(options.rounds):
                for name, count in against(limiting, path, model, number, calls).items():
                    counts.setdefault(name, {}).setdefault(model, []).append(count)
        report.figures[limiting.title] = counts
        report.tables.append(_table(limiting.title, counts, calls))
        for model in MODELS:
            refused = [count for count, _ in counts[OURS][model]]
            text = f"{limiting.title}, {model}: at most {limiting.most} of 300"
            report.goals.append(Goal(text, ", ".join(map(str, refused)), median(refused) <= limiting.most))
    return report


def against(limiting: Limiting, path: str, model: str, seed: int, calls: int) -> dict[str, tuple[int, float]]:
    """429s that each contender met, and the share of the cap that it got. Ours repeats, as it does anywhere."""
    ports = {name: _free_port() for name in CONTENDERS}
    settings = {name: Setting(model, through=port, seed=seed) for name, port in ports.items()}
    with ExitStack() as stack:

        def before(name: str, origin: int, certificate: Certificate) -> None:
            stack.enter_context(_started(limiting, path, ports[name], origin, certificate))

        runs = side_by_side(settings, calls, before)
    return {name: (tally.refused, used(seen.arrivals)) for name, (seen, tally) in runs.items()}


@contextmanager
def _started(limiting: Limiting, path: str, port: int, origin: int, certificate: Certificate) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "configuration"
        values = {"host": HOST, "port": port, "origin": origin, "directory": directory, "pem": certificate.pem}
        file.write_text(limiting.configuration.format(burst=limiting.burst, **values))
        log = (Path(directory) / "output").open("w")
        with log, subprocess.Popen(limiting.command(path, file), stdout=log, stderr=log) as process:
            try:
                _await(port, process, Path(directory) / "output")
                yield
            finally:
                process.terminate()


def _await(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    for _ in range(200):
        with suppress(OSError), socket.create_connection((HOST, port)):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"it did not start: {output.read_text()}")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def _table(title: str, counts: dict[str, dict[str, list[tuple[int, float]]]], calls: int) -> Table:
    return Table(
        f"{title}: 429s of {calls} calls; share of the cap that was let through",
        ["", *(column for model in MODELS for column in (f"jitter {model}", "cap used"))],
        [
            [
                name,
                *(
                    cell
                    for model in MODELS
                    for cell in (
                        f"{median(refused for refused, _ in by_model[model]):g}",
                        f"{median(share for _, share in by_model[model]):.3f}",
                    )
                ),
            ]
            for name, by_model in counts.items()
        ],
    )
