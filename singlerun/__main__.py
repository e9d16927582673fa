#!python
"""The door. Installed as the script ``singlerun``, and run by ``python -m singlerun``.

It has no code of its own: a script is compiled at every start, a module only once.
"""

from singlerun.fastpath import main

if __name__ == "__main__":
    main()
