//! Training and evaluation of promptable segmentation models.
