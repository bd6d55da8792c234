"""The door beside the shop, as in the tests of `./ponte predict`."""

from tests.postgres.offline.conftest import door

__all__ = ["door"]
