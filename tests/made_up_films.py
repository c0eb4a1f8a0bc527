"""Films made up for more than one file of tests, as arrays and as the bytes of files."""

import io

import cv2
import numpy as np
from PIL import Image
from pydicom import DataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless


def film(height: int = 48, width: int = 36, seed: int = 0) -> np.ndarray:
    """A soft picture that uses every level from 0 to 255, so that stretching a deep copy of it changes nothing."""
    noise = np.random.default_rng(seed).normal(size=(height, width))
    soft = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.rint((soft - soft.min()) / np.ptp(soft) * 255).astype(np.uint8)


def deep(grey: np.ndarray, bits: int = 16) -> np.ndarray:
    return np.rint(grey.astype(np.float64) / 255 * (2**bits - 1)).astype(np.uint16)


def opencv(ending: str, pixels: np.ndarray) -> bytes:
    return cv2.imencode(ending, pixels)[1].tobytes()


def pillow(pixels: np.ndarray | Image.Image, kind: str, **settings: object) -> bytes:
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, kind, **settings)
    return file.getvalue()


def rgb(grey: np.ndarray, channels: int = 3) -> np.ndarray:
    return np.dstack([grey] * 3 + [np.full_like(grey, 128)] * (channels - 3))


def dicom(pixels: np.ndarray, bits: int = 0, syntax: str = ExplicitVRLittleEndian, **tags: object) -> bytes:
    """A DICOM file of these pixels; `tags` are added, or taken out where None; a whole element has any name."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128, is_little_endian=syntax != ExplicitVRBigEndian)
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = pixels.dtype.itemsize * 8
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    if syntax == RLELossless:
        data.compress(RLELossless, generate_instance_uid=False)
    for name, value in tags.items():
        if value is None:
            delattr(data, name)
        elif isinstance(value, DataElement):
            data.add(value)
        else:
            setattr(data, name, value)
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()
