"""The model. Its parts are inside the engine, so that :class:`~.sam2_base.SAM2Base` is all there is."""
