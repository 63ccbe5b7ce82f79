"""Many exports as one table: checkpoints x targets x precisions x input sizes x devices.

plan         SWEEP.toml to cells, each with a key that changes with anything that its result depends on
store        where results go: any fsspec URL
work         what a worker does for one cell
executors    local processes, or an existing Dask cluster: ``concurrent.futures`` both
running      hands out what is not done yet, and goes on whatever fails
results      the table, as text, Markdown and JSON
"""
