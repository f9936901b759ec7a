"""sacroplan: planning of sacral tumour resection and spinopelvic reconstruction.

Research software. Not a medical device. Importing this package is cheap on purpose: every
room imports its heavy libraries where they are used.
"""

__version__ = "0.1.0"
