"""The commands that people use, each in an environment of its own: `nox --list`."""

from __future__ import annotations

import nox

nox.options.sessions = ["tests", "checks", "docs"]
nox.options.reuse_existing_virtualenvs = True


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """The tests; arguments go to pytest."""
    session.install("-q", "-e", ".[dev]")
    session.run("pytest", "-q", "-n", "4", *session.posargs)


@nox.session
def checks(session: nox.Session) -> None:
    """Format, lint, spelling and types."""
    session.install("-q", "-e", ".[dev]")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("codespell")
    session.run("mypy")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """Write what is generated, and build the site without a warning."""
    session.install("-q", "-e", ".[dev]")
    session.run("python", "-m", "tools.site", *session.posargs)


@nox.session
def pictures(session: nox.Session) -> None:
    """Make the pictures of the documentation again."""
    session.install("-q", "-e", ".[dev]")
    session.run("python", "-m", "tools.pictures")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """The measurements; `-- --full` for the long form."""
    session.install("-q", "-e", ".[bench]")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The sdist, and the wheel from it."""
    session.install("-q", "build")
    session.run("python", "-m", "build")
