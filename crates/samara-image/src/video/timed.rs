//! Raw frames with times: as much of Matroska as ffmpeg needs to read them from a pipe.

/// Seconds to the unit in which a file with `TimestampScale` 1000 counts.
const MICROSECONDS: f64 = 1e6;
/// A size that is not known: to the end of the file, or to the next element of that level.
const UNKNOWN: [u8; 8] = [0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];

/// What comes before the first frame of a video with this width and height.
pub(super) fn head((width, height): (u32, u32)) -> Vec<u8> {
    let video = [
        number(&[0xB0], u64::from(width)),
        number(&[0xBA], u64::from(height)),
        // The format of pixels as ffmpeg calls it.
        element(&[0x2E, 0xB5, 0x24], b"RGB\x18"),
    ];
    let track = [
        number(&[0xD7], 1),
        number(&[0x73, 0xC5], 1),
        number(&[0x83], 1),
        element(&[0x86], b"V_UNCOMPRESSED"),
        element(&[0xE0], &video.concat()),
    ];
    let tracks = element(&[0xAE], &track.concat());
    [
        element(
            &[0x1A, 0x45, 0xDF, 0xA3],
            &element(&[0x42, 0x82], b"matroska"),
        ),
        [&[0x18, 0x53, 0x80, 0x67], &UNKNOWN[..]].concat(),
        element(
            &[0x15, 0x49, 0xA9, 0x66],
            &number(&[0x2A, 0xD7, 0xB1], 1000),
        ),
        element(&[0x16, 0x54, 0xAE, 0x6B], &tracks),
    ]
    .concat()
}

/// What comes before the `bytes` bytes of a frame that is shown at `start` for `duration` seconds: a
/// cluster of its own.
pub(super) fn block(start: f64, duration: f64, bytes: usize) -> Vec<u8> {
    let units = |seconds: f64| (seconds * MICROSECONDS).round() as u64;
    let duration = number(&[0x9B], units(duration));
    // The number of the track, no offset from the cluster's time, no flags.
    let head = [0x81, 0, 0, 0];
    let block = [&[0xA1], &size(head.len() + bytes)[..], &head[..]].concat();
    let group = size(duration.len() + block.len() + bytes);
    [
        [&[0x1F, 0x43, 0xB6, 0x75], &UNKNOWN[..]].concat(),
        number(&[0xE7], units(start)),
        [&[0xA0], &group[..]].concat(),
        duration,
        block,
    ]
    .concat()
}

fn element(id: &[u8], content: &[u8]) -> Vec<u8> {
    [id, &size(content.len()), content].concat()
}

fn number(id: &[u8], value: u64) -> Vec<u8> {
    element(id, &value.to_be_bytes())
}

/// A size in eight bytes, the first of which says so.
fn size(bytes: usize) -> [u8; 8] {
    let mut size = (bytes as u64).to_be_bytes();
    size[0] = 1;
    size
}
