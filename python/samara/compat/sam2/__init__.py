"""``sam2`` on Samara's engine: promptable segmentation of images and videos.

As in the official package, the parts are imported from its modules: ``build_sam``, ``sam2_image_predictor``,
``sam2_video_predictor`` and ``automatic_mask_generator``.
"""
