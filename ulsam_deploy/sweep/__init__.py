"""Many exports as one table: checkpoints x targets x precisions x input sizes x devices, and accuracy in shards.

plan         SWEEP.toml to cells, each with a key that changes with anything that its result depends on
store        where results go: any fsspec URL
work         what a worker does for one cell, or for one shard of the labelled set
accuracy     counts that can be added up
executors    local processes, or an existing Dask cluster
running      hands out what is not done yet, and goes on whatever fails
results      the table, as text, Markdown, JSON and HTML
"""
