"""``python -m popug_cli`` and the ``popug`` command."""

import gc

gc.disable()


def main() -> None:
    """Run one command line, and exit with its code or by the signal that ended it."""
    import sys

    try:
        from popug_cli.cli.main import run
        from popug_cli.platform.signals import run_with_signal_handling

        code = run_with_signal_handling(lambda: run(sys.argv[1:]))
    except KeyboardInterrupt:
        code = 130
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
