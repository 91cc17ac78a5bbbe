"""The tests and harnesses. None of them writes to the database that this account has chosen for its company."""

import os

os.environ.pop("POPUG_DATABASE", None)
