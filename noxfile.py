"""The steps of CI, each in an environment of its own: `nox`, or one with `nox -s lint`."""

import nox

nox.options.sessions = ["tests", "lint", "docs", "smoke", "extras"]


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests with the core dependencies; those that need an extra are skipped by name."""
    session.install("-q", "-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    session.install("-q", "-e", ".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation: notebooks executed, warnings are errors, no link broken."""
    session.install("-q", "-e", ".[docs]")
    session.run("sphinx-build", "-q", "-W", "--keep-going", "-E", "docs", "docs/_build/html")
    session.run("python", "docs/check_links.py", "docs/_build/html")


@nox.session
def smoke(session: nox.Session) -> None:
    """Run every benchmark once at a small size, answers asserted."""
    session.install("-q", "-e", ".[test]")
    session.run("python", "benchmarks/run.py", "--smoke")


@nox.session
def extras(session: nox.Session) -> None:
    """Run the tests that need PyTorch, the sample model or a peer emulator."""
    session.install("-q", "torch==2.13.0")  # first, so that nothing below asks for another build
    session.install("-q", "-e", ".[test,sample,plot]")
    session.install("-q", "--no-deps", "mmaemu")
    session.run("pytest", "-q", "-m", "extra", *session.posargs)
