"""`python -m lumos`: the command line, for environments whose scripts are not on the path."""

from lumos.cli import main

main()
