from training.data.images import EncodedSet, ImageSet, LabelledImages
from training.data.long_tail import long_tailed_subset
from training.data.splits import Split, read_split

__all__ = [
    "EncodedSet",
    "ImageSet",
    "LabelledImages",
    "Split",
    "long_tailed_subset",
    "read_split",
]
