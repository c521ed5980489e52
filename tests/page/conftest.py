"""What the tests of the page share with those of the command line."""

from tests.cli.conftest import _own_terminal, cli  # noqa: F401
