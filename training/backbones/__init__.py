"""Where a network is cut into a shared trunk and an expert.

RIDE shares the early stages of a network between experts; each expert owns the late stages and a
classifier (Wang et al., "Long-tailed Recognition by Routing Diverse Distribution-Aware Experts",
ICLR 2021, section 3 and appendix). Here is one module for each kind of network and, in
`registry`, the list of all; `training.model` puts one trunk and several experts together.
"""

from training.backbones.classifier import COSINE_SCALE
from training.backbones.registry import Parts, build_parts

__all__ = ["COSINE_SCALE", "Parts", "build_parts"]
