//! Whether a file reaches its own end.
//!
//! JPEG decoders paint what is missing grey and report success; a segmentation of a half-grey
//! image looks like a model's mistake, so a cut file is refused instead. WebP's bitstreams call
//! themselves corrupt when they are only short. A TIFF's values may claim any length. The other formats'
//! decoders notice by themselves.

use image::ImageFormat;

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;

/// False when the file is shorter than its own structure says.
pub(crate) fn is_complete(bytes: &[u8], format: ImageFormat) -> bool {
    match format {
        ImageFormat::Jpeg => jpeg_is_complete(bytes),
        ImageFormat::WebP => riff_is_complete(bytes),
        #[cfg(feature = "image")]
        ImageFormat::Tiff => crate::tiff::holds_its_values(bytes),
        _ => true,
    }
}

/// Compares with the sizes in the RIFF header and in front of its chunks, which count from behind themselves.
fn riff_is_complete(bytes: &[u8]) -> bool {
    let size = |at: usize| -> Option<usize> {
        let field = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(field) as usize)
    };
    let Some(end) = size(4)
        .map(|size| size.saturating_add(8))
        .filter(|&end| end <= bytes.len())
    else {
        return false;
    };
    let mut at = 12;
    while at + 8 <= end {
        match size(at + 4) {
            // A chunk of an odd size has a byte of padding, which may be missing at the end.
            Some(size) if size <= end - at - 8 => at += 8 + size + size % 2,
            _ => return false,
        }
    }
    true
}

/// Walks the marker segments (ITU-T T.81, annex B) and says whether the end-of-image marker
/// follows at least one scan.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = 0;
    let mut scans = 0;
    loop {
        let Some(marker) = next_marker(bytes, &mut at) else {
            return false;
        };
        match marker {
            EOI => return scans > 0,
            // These stand alone, without a length.
            SOI | 0x01 | 0xD0..=0xD7 => {}
            _ => {
                let Some(&[high, low]) = bytes.get(at..at + 2) else {
                    return false;
                };
                at += usize::from(u16::from_be_bytes([high, low])).max(2);
                scans += usize::from(marker == SOS);
            }
        }
    }
}

/// The code of the next marker at or after `at`, which moves behind it.
///
/// Skips entropy-coded data, where `FF 00` is a stuffed byte, and garbage between segments.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let rest = bytes.get(*at..)?;
        let found = rest.iter().position(|&b| b == 0xFF)?;
        *at += found + 1;
        match *bytes.get(*at)? {
            0x00 => *at += 1,
            0xFF => {}
            marker => {
                *at += 1;
                return Some(marker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_of_a_webp_ends_inside_of_it() {
        let file = |size: u32| {
            let mut file = b"RIFF\x18\0\0\0WEBPEXIF".to_vec();
            file.extend(size.to_le_bytes());
            file.extend(b"abcVP8 ");
            file.resize(32, 0);
            file
        };
        assert!(riff_is_complete(&file(12)));
        for size in [13, 1000, u32::MAX] {
            assert!(!riff_is_complete(&file(size)), "{size}");
        }
    }

    #[test]
    fn an_embedded_thumbnail_does_not_count_as_the_end() {
        let thumbnail = [0xFF, 0xD8, 0xFF, 0xD9];
        let mut file = vec![0xFF, 0xD8, 0xFF, 0xE1, 0, 6];
        file.extend(thumbnail);
        file.extend([0xFF, 0xDA, 0, 3, 0, 1, 2, 0xFF, 0x00, 5]);
        assert!(!jpeg_is_complete(&file));
        file.extend([0xFF, 0xD9]);
        assert!(jpeg_is_complete(&file));
        for cut in 0..file.len() {
            assert!(!jpeg_is_complete(&file[..cut]), "cut at {cut}");
        }
    }
}
