"""What is kept between runs: sensitivity lists and trainings, each under a hash of all that it depends on."""

from veriquant.caches.folder import cache_folder

__all__ = ["cache_folder"]
