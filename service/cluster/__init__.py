"""Reports on many machines: a Dask cluster whose workers read polls themselves."""
