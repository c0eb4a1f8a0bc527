"""An embedded simulator of paediatric hand radiographs, so the course runs without any real patient's image.

`anatomy` holds the published tables, `skeleton` grows one child's bones from them, `shapes` turns bones into
outlines, `radiograph` takes the film, `dataset` writes a cohort in the flat RSNA layout.
"""

from bonexage_utils.phantom.dataset import child_and_film, read_masks, write_cohort
from bonexage_utils.phantom.maturity import Centre
from bonexage_utils.phantom.nuisances import Nuisances
from bonexage_utils.phantom.radiograph import render
from bonexage_utils.phantom.skeleton import Bone, Child, grow

__all__ = ["Bone", "Centre", "Child", "Nuisances", "child_and_film", "grow", "read_masks", "render",
           "write_cohort"]
