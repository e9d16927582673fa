"""What can be wrong with this machine, this installation and this record: ``singlerun doctor``.

Each check is a function of a Case that returns an Answer; ``checks`` has the table of them and
``examination`` carries them out. None of them changes anything.
"""
