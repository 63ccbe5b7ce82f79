"""Many exports as one table: checkpoints x targets x precisions x input sizes x devices.

plan         reads SWEEP.toml into cells, each with a key that changes with anything that its result depends on
store        stores results at any fsspec URL
work         does the work of one cell
executors    local processes or an existing Dask cluster, both as ``concurrent.futures``
running      distributes the cells that are not done yet, and continues after failures
results      makes the table, as text, Markdown and JSON
"""
