//! Files that are no checkpoints, or were made to do harm: refused in one line, at once, and in
//! little memory.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use samara_model::Model;
use samara_model::checkpoint::Checkpoint;

use crate::files::{self, golden, refusal, sam_vit};
use crate::torch::{self, Entry, Pickle};

/// Names the folder in which a test that runs in a process of its own is to work.
pub(crate) const FOLDER_VARIABLE: &str = "SAMARA_TEST_FOLDER";

/// What opening, recognising and loading the bytes is refused with.
fn verdict(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    let start = Instant::now();
    let message = refusal(&path, load(&path));
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{message} took {:?}",
        start.elapsed()
    );
    message
}

/// Loads with the configuration of the small SAM if the file does not tell one.
fn load(path: &Path) -> Result<(), samara_model::checkpoint::CheckpointError> {
    let checkpoint = Checkpoint::open(path)?;
    let small = Checkpoint::open(golden("sam_vit.pth"))?.config()?;
    let config = checkpoint.config().unwrap_or(small);
    Model::load_with(&checkpoint, &config, &Device::flex())?;
    checkpoint.info().map(|_| ())
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let length = header.len() as u64;
    [&length.to_le_bytes(), header.as_bytes(), data].concat()
}

/// A dictionary with one tensor under the first key of the encoder.
fn one_tensor(storage: (&str, &str, i64), shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let pickle = Pickle::new().raw(b"}(").text("image_encoder.pos_embed");
    let pickle = pickle.tensor(storage, shape, strides).raw(b"u");
    torch::archive(pickle.stop(), vec![vec![0; 64]])
}

#[test]
fn what_is_no_checkpoint_is_said_to_be_none() {
    let neither = "is neither a PyTorch (.pth) nor a safetensors checkpoint";
    assert_eq!(verdict(b""), "is empty");
    for bytes in [
        &b"P"[..],
        b"{",
        b"\x80",
        b"PK\x05\x06",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\0",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        b"<!DOCTYPE html><html><body>404: Not Found</body></html>",
        b"{\"model\": \"sam\"}",
        &[0; 1000],
        &[0xff; 1000],
    ] {
        assert_eq!(verdict(bytes), neither);
    }
}

#[test]
fn what_is_no_file_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let message = refusal(dir.path(), Checkpoint::open(dir.path()));
    assert_eq!(message, "is a folder, not a checkpoint file");
    let missing = dir.path().join("missing.pth");
    let message = refusal(&missing, Checkpoint::open(&missing));
    assert!(message.ends_with("(os error 2)"), "{message}");
}

/// Opening a pipe would wait for someone to write into it.
#[cfg(unix)]
#[test]
fn a_pipe_or_device_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for path in [&pipe, &PathBuf::from("/dev/zero")] {
        let message = refusal(path, Checkpoint::open(path));
        assert_eq!(message, "is not a regular file");
    }
}

#[test]
fn a_shorter_file_never_opens() {
    let dir = tempfile::tempdir().unwrap();
    let own = files::write(dir.path(), &sam_vit(), None);
    let names = [
        "sam_vit.pth",
        "sam_vit_f16.pth",
        "sam_vit.legacy.pth",
        "mobile_sam.pth",
    ];
    let mut paths: Vec<PathBuf> = names.map(golden).to_vec();
    paths.extend([golden("sam_hf.safetensors"), own]);
    for path in paths {
        let bytes = std::fs::read(&path).unwrap();
        let short = dir.path().join("short");
        let nearly = [1, 2, 8, 9, bytes.len() - 1, bytes.len() - 22];
        for length in (0..40).map(|part| part * bytes.len() / 40).chain(nearly) {
            std::fs::write(&short, &bytes[..length]).unwrap();
            let opened = Checkpoint::open(&short).map(|_| format!("{length} of {path:?}"));
            refusal(&short, opened);
        }
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = files::write(dir.path(), &sam_vit(), None);
    let checkpoint = Checkpoint::open(&path).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(200_000).unwrap();
    let message = refusal(&path, Model::load(&checkpoint, &Device::flex()));
    assert!(message.contains("keys unreadable ("), "{message}");
}

#[test]
fn lying_safetensors_headers_are_refused() {
    let tensor = |shape: &str, start: &str, end: &str| {
        let info = format!(r#""dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]"#);
        safetensors(
            &format!(r#"{{"image_encoder.pos_embed":{{{info}}}}}"#),
            &[0; 64],
        )
    };
    let huge = "1152921504606846976";
    for (shape, start, end) in [
        (&*format!("[{huge},{huge}]"), "0", "64"),
        (&*format!("[{huge}]"), "0", "4611686018427387904"),
        ("[18446744073709551615]", "0", "64"),
        ("[16]", "64", "0"),
        ("[16]", "8", "72"),
        ("[16]", "0", "63"),
        ("[17]", "0", "68"),
        ("[-16]", "0", "64"),
        ("[16]", "-64", "0"),
        ("[1e3]", "0", "64"),
        ("[99999999999999999999]", "0", "64"),
        ("16", "0", "64"),
    ] {
        let message = verdict(&tensor(shape, start, end));
        assert!(
            message.contains("header"),
            "{shape} {start} {end}: {message}"
        );
    }
    for length in [
        u64::MAX,
        u64::MAX - 7,
        1 << 63,
        100_000_001,
        99_999_999,
        1000,
    ] {
        let mut bytes = tensor("[16]", "0", "64");
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        verdict(&bytes);
    }
    for header in ["{}", "{\"__metadata__\":{}}"] {
        assert_eq!(verdict(&safetensors(header, b"")), "holds no tensors");
    }
    let nested = format!(r#"{{"a":{}"#, "[".repeat(100_000));
    for header in [
        "{",
        "{\"a\":1}",
        "{\"a\":null}",
        "{\"__metadata__\":1}",
        &nested,
    ] {
        verdict(&safetensors(header, b""));
    }
}

/// Tensors whose sizes add up to the file's only if the sum wraps around.
#[test]
fn offsets_that_wrap_around_are_refused() {
    const STEP: u64 = 1 << 60;
    const HEADER: u64 = 3000;
    let info = |(index, size): (u64, u64)| {
        let start = index * STEP;
        let end = u128::from(start) + u128::from(size);
        let info = format!(r#""dtype":"U8","shape":[{size}],"data_offsets":[{start},{end}]"#);
        format!(r#""tensor {index}":{{{info}}}"#)
    };
    // With the header's 8 + 3000 bytes, 2^64 in all; or one less, in a file of 2^64 - 1.
    for missing in [0, 1] {
        let last = STEP - 8 - HEADER - missing;
        let sizes = [vec![STEP; 15], vec![last]].concat();
        let infos: Vec<String> = (0..).zip(sizes).map(info).collect();
        let mut header = format!("{{{}}}", infos.join(","));
        let padding = HEADER as usize - header.len();
        header.extend(std::iter::repeat_n(' ', padding));
        let message = verdict(&safetensors(&header, b""));
        let start = "truncated: 3008 bytes, its header promises 184467440737095516";
        assert!(message.starts_with(start), "{message}");
    }
}

#[test]
fn unsupported_types_are_named() {
    let header = r#"{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}"#;
    let expected = "key a has the type F8_E4M3, which is not supported";
    assert_eq!(verdict(&safetensors(header, &[0])), expected);
}

#[test]
fn doubled_names_do_no_harm() {
    let info = r#""image_encoder.pos_embed":{"dtype":"U8","shape":[4],"data_offsets":"#;
    verdict(&safetensors(
        &format!("{{{info}[0,4]}},{info}[4,8]}}}}"),
        &[0; 8],
    ));
    verdict(&safetensors(
        &format!("{{{info}[0,4]}},{info}[0,4]}}}}"),
        &[0; 4],
    ));
}

/// A layer's number must not decide how many layers are built.
#[test]
fn absurd_layer_numbers_are_refused() {
    for number in [
        "999999999999",
        "18446744073709551615",
        "99999999999999999999",
        "-1",
        "150",
    ] {
        for key in [
            "image_encoder.blocks.N.norm1.weight",
            "mask_decoder.transformer.layers.N.norm1.weight",
            "mask_decoder.iou_prediction_head.layers.N.weight",
        ] {
            let mut tensors = sam_vit();
            let one = tensors["image_encoder.blocks.0.norm1.weight"].clone();
            tensors.insert(key.replace('N', number), one);
            let dir = tempfile::tempdir().unwrap();
            let path = files::write(dir.path(), &tensors, None);
            verdict(&std::fs::read(path).unwrap());
        }
    }
}

/// `pickle.dumps({"image_encoder.pos_embed": E()}, protocol=2)`, where `E.__reduce__` gives
/// `(os.system, ("touch pickle_was_executed",))`.
const OS_SYSTEM: &[u8] = b"\x80\x02}q\x00X\x17\x00\x00\x00image_encoder.pos_embedq\x01cposix\n\
    system\nq\x02X\x19\x00\x00\x00touch pickle_was_executedq\x03\x85q\x04Rq\x05s.";

#[test]
fn a_pickle_is_not_executed() {
    assert_eq!(verdict(OS_SYSTEM), "holds no tensors");
    assert_eq!(
        verdict(&torch::archive(OS_SYSTEM.to_vec(), vec![])),
        "holds no tensors"
    );
    assert!(!Path::new("pickle_was_executed").exists());

    // Beside weights it is an entry like any other that is no tensor.
    let call = Pickle::new()
        .raw(b"}")
        .text("hook")
        .global("posix", "system");
    let call = call
        .raw(b"(")
        .text("touch pickle_was_executed")
        .raw(b"tRs(");
    let tensors = sam_vit();
    let (pickle, storages) = torch::state_dict(call.text("model"), &tensors);
    let bytes = torch::archive(pickle.raw(b"u").stop(), storages);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.pth");
    std::fs::write(&path, bytes).unwrap();
    load(&path).unwrap();
    assert!(!Path::new("pickle_was_executed").exists());
}

#[test]
fn broken_pickles_are_refused() {
    let nested = |opcode: &[u8], times: usize| Pickle::new().raw(&opcode.repeat(times)).stop();
    let bomb = Pickle::new().raw(b"]q\0").raw(&b"h\0h\0\x86q\0".repeat(64));
    for pickle in [
        nested(b"]", 100_000),
        nested(b"(", 100_000),
        nested(b"N\x85", 1),
        Pickle::new().raw(b"N").raw(&b"\x85".repeat(100_000)).stop(),
        Pickle::new()
            .raw(&b"](".repeat(50_000))
            .raw(&b"e".repeat(50_000))
            .stop(),
        Pickle::new()
            .raw(b"}")
            .text("a")
            .raw(b"\x8b\xff\xff\xff\x7f")
            .stop(),
        Pickle::new().raw(b"X\xff\xff\xff\xff").stop(),
        Pickle::new()
            .raw(b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff")
            .stop(),
        bomb.stop(),
        Pickle::new().raw(b"h\x07").stop(),
        Pickle::new().raw(b"R").stop(),
        Pickle::new().raw(b"0").stop(),
        Pickle::new().raw(b"\xff").stop(),
        Pickle::new().stop(),
        Pickle::new().0,
        Pickle::new().raw(b"cos\n").0,
    ] {
        verdict(&pickle);
        verdict(&torch::archive(pickle, vec![]));
    }
}

#[test]
fn tensors_that_claim_more_than_the_file_has_are_refused() {
    const MANY: i64 = 1 << 60;
    for (storage, shape, strides) in [
        (("FloatStorage", "0", 16), &[MANY, MANY][..], &[0, 0][..]),
        (("FloatStorage", "0", 16), &[0, MANY, MANY], &[0, 0, 0]),
        (("FloatStorage", "0", 16), &[17], &[1]),
        (("FloatStorage", "0", 16), &[-16], &[1]),
        (("FloatStorage", "0", 16), &[16], &[-1]),
        (("FloatStorage", "0", 16), &[16], &[MANY]),
        (("FloatStorage", "0", 16), &[16], &[]),
        (("FloatStorage", "0", MANY), &[MANY], &[1]),
        (("FloatStorage", "0", -1), &[16], &[1]),
        (("FloatStorage", "9", 16), &[16], &[1]),
        (("NoStorage", "0", 16), &[16], &[1]),
        (("FloatStorage", "../../0", 16), &[16], &[1]),
    ] {
        verdict(&one_tensor(storage, shape, strides));
    }
    // 8 GB that are one number.
    let message = verdict(&one_tensor(("FloatStorage", "0", 16), &[1 << 31], &[0]));
    assert!(
        message.starts_with("damaged: its tensors claim 8589934592 bytes"),
        "{message}"
    );
    // No more than the file might hold, but more than the storage does.
    verdict(&one_tensor(("FloatStorage", "0", 700), &[700], &[1]));
}

#[test]
fn zip_bombs_are_refused() {
    let tensor = |count: i64| {
        let storage = ("FloatStorage", "0", count);
        let pickle = Pickle::new().raw(b"}(").text("image_encoder.pos_embed");
        pickle.tensor(storage, &[count], &[1]).raw(b"u").stop()
    };
    // The start of a long run of zeros; what is to be refused is what the entries claim.
    let deflated = [
        &[0xed, 0xc1, 0x01, 0x01, 0, 0, 0, 0x80, 0x90, 0xfe][..],
        &[0; 4000],
    ]
    .concat();
    let entry = |name: &str, size: u32, data: &[u8]| Entry {
        name: name.into(),
        method: 8,
        size,
        data: data.to_vec(),
    };
    let storage = torch::zip(&[
        Entry::stored("made/data.pkl", tensor(1 << 28)),
        entry("made/data/0", 1 << 30, &deflated),
    ]);
    assert!(verdict(&storage).starts_with("damaged: its tensors claim 1073741824 bytes"));
    let pickle = torch::zip(&[entry("made/data.pkl", u32::MAX - 1, &deflated)]);
    assert_eq!(
        verdict(&pickle),
        "damaged: its pickle unpacks to 4294967294 bytes"
    );
    // Without a dictionary, or with entries that lie about their place or size.
    assert!(verdict(&torch::zip(&[])).contains("PyTorch"));
    let mut lying = torch::archive(tensor(16), vec![vec![0; 64]]);
    let directory = lying.len() - 22 - 2 * 46 - "made/data.pklmade/data/0".len();
    lying[directory + 20..directory + 28].fill(0xff);
    verdict(&lying);
    let end = lying.len();
    lying[end - 14..end - 2].fill(0xff);
    verdict(&lying);
}

/// Runs a test of this file in a process whose limits the shell commands set, working in `dir`.
#[cfg(unix)]
pub(crate) fn run_limited(limits: &str, test: &str, dir: &Path) -> String {
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("{limits}; exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(FOLDER_VARIABLE, dir)
        // Every thread reserves address space of its own.
        .envs([("RAYON_NUM_THREADS", "1"), ("MALLOC_ARENA_MAX", "1")])
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert!(out.contains("1 passed"), "{test} did not run: {out}");
    out
}

#[cfg(target_os = "linux")]
#[test]
fn refusing_takes_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    for test in [
        "lying_safetensors_headers_are_refused",
        "offsets_that_wrap_around_are_refused",
        "absurd_layer_numbers_are_refused",
        "broken_pickles_are_refused",
        "tensors_that_claim_more_than_the_file_has_are_refused",
        "zip_bombs_are_refused",
    ] {
        // Address space, of which the process itself takes several hundred megabytes.
        run_limited("ulimit -v 1000000", &format!("hostile::{test}"), dir.path());
    }
}
