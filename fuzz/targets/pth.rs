//! Checkpoints of PyTorch: zip archives, and the format before them.
#![no_main]

samara_fuzz::target!(|bytes| samara_fuzz::checkpoint::read(bytes));
