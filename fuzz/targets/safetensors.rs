//! Checkpoints and answers as safetensors.
#![no_main]

samara_fuzz::target!(|bytes| {
    // Bytes of another format are for other targets.
    if bytes.get(8) == Some(&b'{') {
        samara_fuzz::checkpoint::read(bytes);
    }
});
