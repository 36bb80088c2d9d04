"""Makes the environment the same everywhere, and only then loads the fixtures, and with them what may read it."""

import environment

environment.settle()

pytest_plugins = ["shared_fixtures"]
