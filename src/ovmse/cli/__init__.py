"""The command line: one file per command; `ovmse.cli.main` chooses among them."""
