"""Pictures that fit: a photograph made into what the API takes, without saying where it was taken. Extra `images`."""

from __future__ import annotations

from mmsclient._api.fitted_picture import FITS_ANY_TEXT, MAX_SOURCE_BYTES, FittedPicture
from mmsclient.pictures.fitting import MAX_PIXELS, MAX_SIZE, examine, fit
from mmsclient.pictures.models import PictureFacts

__all__ = [
    "FITS_ANY_TEXT",
    "MAX_PIXELS",
    "MAX_SIZE",
    "MAX_SOURCE_BYTES",
    "FittedPicture",
    "PictureFacts",
    "examine",
    "fit",
]
