"""``python -m popug_cli`` and the ``popug`` command."""

import gc

gc.disable()


def main() -> None:
    """Run one command line and leave with its exit code."""
    import sys

    try:
        from popug_cli.cli.main import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
