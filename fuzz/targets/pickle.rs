//! The pickle of a checkpoint of PyTorch, in an archive with storages for it.
#![no_main]

use samara_fuzz::checkpoint;

samara_fuzz::target!(|bytes| {
    let storages = [("made/data/0", &[0x3f; 256][..]), ("made/data/1", &[1; 64])];
    let entries = [&[("made/data.pkl", bytes)][..], &storages].concat();
    checkpoint::read(&checkpoint::zip(&entries));
});
