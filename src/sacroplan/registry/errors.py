"""The registry's own error."""

from sacroplan.errors import SacroplanError


class RegistryError(SacroplanError):
    """The registry cannot be opened, read or changed as asked; always one line.

    A file's own words may stand in the message, and a damaged file has line ends in odd places.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
