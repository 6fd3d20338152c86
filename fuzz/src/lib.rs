//! What all fuzz targets share.

pub mod checkpoint;
pub mod cli;

use std::backtrace::Backtrace;
use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::process::abort;
use std::sync::Mutex;

/// What the last panic said, and where it was.
static LAST_PANIC: Mutex<Option<(String, Backtrace)>> = Mutex::new(None);

/// A target: `target!(|bytes| …)`. A panic that leaves it is a finding; one that the crates catch, as that of an
/// image decoder, is none.
#[macro_export]
macro_rules! target {
    (|$bytes:ident| $body:expr) => {
        libfuzzer_sys::fuzz_target!(init: $crate::keep_panics(), |$bytes: &[u8]| {
            $crate::run(|| $body);
        });
    };
}

/// Replaces the hook of the fuzzer, which would end the process at once.
pub fn keep_panics() {
    drop(take_hook());
    set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let panic = (info.to_string(), Backtrace::capture());
        *LAST_PANIC.lock().unwrap_or_else(|e| e.into_inner()) = Some(panic);
    }));
}

/// Runs a target on an input.
pub fn run(target: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(target)).is_err() {
        let panic = LAST_PANIC.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((text, backtrace)) = &*panic {
            eprintln!("{text}\n{backtrace}");
        }
        abort();
    }
}

/// Where files of this process lie.
pub fn folder() -> PathBuf {
    std::env::temp_dir()
}

/// A file with these bytes, for what reads files. `extension` is without a dot.
pub fn with_file<T>(bytes: &[u8], extension: &str, read: impl FnOnce(&Path) -> T) -> T {
    let name = format!("samara-fuzz-{}.{extension}", std::process::id());
    let path = folder().join(name);
    File::create(&path)
        .and_then(|mut file| file.write_all(bytes))
        .expect("the folder for files is writable");
    let result = read(&path);
    std::fs::remove_file(&path).expect("the file is there");
    result
}

/// What is said of a refused input: one line, and not a long one.
pub fn told<T, E: std::fmt::Display>(result: Result<T, E>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n'), "{text:?}");
            None
        }
    }
}

/// The file with `value` in place of the text of the same length that `"key":"` begins in its header, so that what
/// is bound to a model or to a checksum is read further.
pub fn patched(mut file: Vec<u8>, key: &str, value: &str) -> Vec<u8> {
    let start = format!("\"{key}\":\"");
    let found = file
        .windows(start.len())
        .position(|w| w == start.as_bytes());
    if let Some(place) = found.map(|at| at + start.len())
        && let Some(old) = file.get_mut(place..place + value.len())
    {
        old.copy_from_slice(value.as_bytes());
    }
    file
}

/// The golden file of a small model.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates/samara-model/tests/golden")
        .join(name)
}
