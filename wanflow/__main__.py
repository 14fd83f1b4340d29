"""The console script: `wanflow`, `python -m wanflow` and `cli.py` all end here."""

import sys

from wanflow.heap import ask_for_large_pages


def main() -> None:
    """Run the command line and leave with its exit code."""
    ask_for_large_pages()
    try:
        from wanflow.cli.main import run  # Ctrl-C during imports is 130 too

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
