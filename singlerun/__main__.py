#!python
"""The door. Installed as the script ``singlerun``, and run by ``python -m singlerun``.

It has no code of its own: a script is compiled at every start, a module only once.
"""

if __name__ == "__main__":
    try:
        from singlerun.cli import main

        main()
    except KeyboardInterrupt:  # before there was anything to interrupt
        raise SystemExit(130) from None
