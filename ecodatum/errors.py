"""The errors that a user can cause; each says what happened, where, and what to do."""


class EcoDatumError(Exception):
    """Base of every error whose message is meant for the user; a traceback is for our own bugs."""

    def __init__(self, what: str, *, where: object = None, todo: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.todo = todo
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n  {self.todo}" if self.todo else ""
        return f"{place}{self.what}{advice}"

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the three parts, so that the error crosses process boundaries whole."""
        return (_rebuild, (type(self), self.what, self.where, self.todo))


def _rebuild(kind: type[EcoDatumError], what: str, where: str | None, todo: str | None) -> EcoDatumError:
    return kind(what, where=where, todo=todo)


class ConfigError(EcoDatumError):
    """A recipe, an experiment, a scale or a command-line value cannot be used."""


class PoolError(EcoDatumError):
    """A pool, or a file of it, is missing, damaged or not in CommonPool's layout."""


class AssetError(EcoDatumError):
    """A model, weights or a list that is needed is missing or not what it should be."""


class MissingAssetError(AssetError):
    """Declared assets are not there; `where` names them."""

    @property
    def names(self) -> tuple[str, ...]:
        """The assets that are missing."""
        return tuple((self.where or "").split(", "))


class RunError(EcoDatumError):
    """A unit of work failed, or its output cannot be written."""
