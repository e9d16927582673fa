"""The door of ``python -m singlerun``, and of the script ``singlerun`` (bin/singlerun)."""

if __name__ == "__main__":
    try:
        if __package__ is None:  # by its path, in an isolated interpreter
            import sys

            sys.path.append(__file__.removesuffix("/singlerun/__main__.py"))
            from singlerun.launch import main
        else:
            from singlerun.cli import main

        main()
    except KeyboardInterrupt:  # before there was anything to interrupt
        raise SystemExit(130) from None
