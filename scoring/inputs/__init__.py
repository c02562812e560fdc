"""What can be scored: images by themselves, and files of `FORMATS` that hold or name many.

- `opening`: arguments of the command -> shards
- `formats`: the registry of formats; `parquet`, `webdataset`, `lists` are one each
- `list_layout`: the separator, the header and the columns of a list
- `identity`: by what files are known again, however they were named
- `image_files`: image files, which a folder, a glob or a list names
- `locations`: paths and URLs: listing, opening, reading
"""
