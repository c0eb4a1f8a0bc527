"""Bone age regression from hand radiographs: the working system behind the BoneXage course.

Data flows one way, and each arrow is a module: `cohort` → `images` → `batches` → `model` → `training` →
`prediction` → `evaluation`. Ages are months everywhere. Not a medical device.
"""

__version__ = "0.1.0"
