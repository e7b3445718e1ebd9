"""Results: one xarray schema, files, provenance. Nothing is trained or plotted here."""

from toolkit.results.files import save_results, to_bytes, to_zarr_zip
from toolkit.results.opening import open_results
from toolkit.results.schema import SCHEMA_VERSION, build_tree, root_attributes

__all__ = [
    "SCHEMA_VERSION",
    "build_tree",
    "open_results",
    "root_attributes",
    "save_results",
    "to_bytes",
    "to_zarr_zip",
]
