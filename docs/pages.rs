//! Compiles the examples of the README and of the pages in `docs/`: `cargo test --doc`.
#![cfg(doctest)]

macro_rules! pages {
    ($($name:ident: $path:literal),* $(,)?) => {
        $(#[doc = include_str!($path)] struct $name;)*
    };
}

pages! {
    Readme: "../README.md",
    Attention: "attention.md",
    Everything: "everything.md",
    Library: "library.md",
    Quality: "quality.md",
    Training: "training.md",
    Video: "video.md",
    Zoom: "zoom.md",
}
