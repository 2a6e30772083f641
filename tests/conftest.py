"""What holds for every test of the project?"""

import os

from hypothesis import settings

# Time is never a test's verdict, and a failure prints what reproduces it. With CI set, hypothesis loads a profile of
# its own, which also draws the same examples in every run.
settings.register_profile("aegis", deadline=None, print_blob=True)
if "CI" not in os.environ:
    settings.load_profile("aegis")
