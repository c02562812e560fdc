"""Images in columns of Arrow, for scoring and training: neither knows the other, both this.

- `schema`: columns however deep in structs and lists, by name and by what they hold
- `footer`: what a Parquet file says of a column before that is read
- `images`: batches of them -> encoded images and paths of files, one by one
"""
