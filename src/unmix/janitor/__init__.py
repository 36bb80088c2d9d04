"""The janitor: all that is periodic, in one small process."""
