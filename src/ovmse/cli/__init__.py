"""The command line: one file per command; `ovmse.cli.main` chooses among them.

A command imports what it runs when it runs, so that `--help` waits for none of it.
"""
