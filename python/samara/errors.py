"""What can go wrong; every message is one line and names what it is about."""

from __future__ import annotations


class SamaraError(Exception):
    """Anything that goes wrong in Samara."""


class PromptError(SamaraError, ValueError):
    """A prompt that makes no sense for the image or the model."""


class OptionError(SamaraError, ValueError):
    """An option that makes no sense."""


class ImageError(SamaraError, ValueError):
    """An image or a mask that cannot be read."""


class CheckpointError(SamaraError, ValueError):
    """A file that is no checkpoint, is damaged, or holds a model that is not supported."""


class SavedError(SamaraError, ValueError):
    """A saved embedding or video session that is missing, damaged, or of other weights."""


class VideoError(SamaraError, ValueError):
    """Something that a video session cannot do."""


class DeviceError(SamaraError, RuntimeError):
    """The device failed, or the machine gives no more threads."""


class CancelledError(SamaraError):
    """A long call that was stopped."""
