"""The command line `unmix`, a file per group of commands."""
