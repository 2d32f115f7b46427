"""`python -m hubbub` and the `hubbub` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Problems become one sentence and an exit code; only bugs have tracebacks."""
    from hubbub import cli
    from hubbub.core.errors import Problem

    try:
        sys.exit(cli.main())
    except Problem as problem:
        print(f"hubbub: {problem.detail}", file=sys.stderr)
        sys.exit(2 if problem.code == "bad_request" else problem.outside.exit)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
