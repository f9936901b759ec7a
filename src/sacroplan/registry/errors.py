"""The registry's own error."""

from sacroplan.errors import SacroplanError


class RegistryError(SacroplanError):
    """The registry cannot be opened, read or changed as asked."""
