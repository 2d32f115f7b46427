"""A load tester: many conversations at once, each answer timed and checked.

`plan` says what to do, `pacing` when the next turn begins, a talker (`post_chat`) has it, `tally` counts what came of
it, `watch` whether the generator itself kept up, `report` puts it together and `words` shows it to people. Another
transport is another talker, one file.
"""

from hubbub.apps.load.plan import Plan
from hubbub.apps.load.report import Report
from hubbub.apps.load.run import Load

__all__ = ["Load", "Plan", "Report"]
