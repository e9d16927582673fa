"""The door of ``python -m singlerun``, and of the script ``singlerun`` (process/launch.sh)."""

import gc

gc.set_threshold(50_000)  # to collect while importing takes a millisecond, and finds nothing

if __name__ == "__main__":
    try:
        if __package__ is None:  # started by its path, in an isolated interpreter
            import sys

            packages = __file__.removesuffix("/singlerun/__main__.py")
            sys.path.append(packages)
            from singlerun.process import launch

            launch.take_over(packages)
        from singlerun.cli import main

        main()
    except KeyboardInterrupt:  # before there was anything to interrupt
        raise SystemExit(130) from None
