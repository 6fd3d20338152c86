//! Reading and writing files: formats, orientation, alpha, and what is refused with which words.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat, Luma, LumaA, Rgb, Rgba};
use samara_image::{
    Error as ImageError, GrayImage, ImageLimits, Mask, ReadOptions, RgbImage, decode_image,
    decode_image_with, decode_mask, read_image, read_label_map, read_mask, save_image, save_png,
    write_atomic,
};

const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::WebP,
    ImageFormat::Tiff,
    ImageFormat::Bmp,
    ImageFormat::Gif,
];

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn photo(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 3) as u8, (y * 5) as u8, (x * y / 7 % 251) as u8])
    })
}

fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    decode_image(bytes, "image", &ImageLimits::default())
}

/// A PNG of one declared size and no pixels.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(u32::MAX, |crc, &b| {
            (0..8).fold(crc ^ u32::from(b), |c, _| {
                c >> 1 ^ if c & 1 == 1 { 0xEDB8_8320 } else { 0 }
            })
        })
    };
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    file.extend(&header);
    file.extend(crc(&header).to_be_bytes());
    file.extend(b"\0\0\0\x01IDAT\x78");
    file.extend(crc(b"IDAT\x78").to_be_bytes());
    file
}

#[test]
fn formats_are_recognised_by_content() {
    let image = photo(40, 30);
    let folder = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let path = folder.path().join("wrong.extension");
        fs::write(&path, encode(&image.clone().into(), format)).unwrap();
        let read = read_image(&path, &ImageLimits::default()).unwrap();
        assert_eq!(read.dimensions(), (40, 30), "{format:?}");
        let lossless = !matches!(format, ImageFormat::Jpeg | ImageFormat::Gif);
        assert!(!lossless || read == image, "{format:?}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_as_truncated() {
    for format in FORMATS {
        let bytes = encode(&photo(90, 70).into(), format);
        for share in [30, 50, 80, 99] {
            let cut = &bytes[..bytes.len() * share / 100];
            let error = decode(cut).expect_err(&format!("{format:?} cut at {share} %"));
            let text = error.to_string();
            assert!(text.starts_with("image: "), "{text}");
            assert!(!text.contains('\n'), "{text}");
            assert!(
                text.contains("truncated"),
                "{format:?} at {share} %: {text}"
            );
        }
        for cut in 1..64.min(bytes.len()) {
            assert!(
                decode(&bytes[..cut]).is_err(),
                "{format:?} cut after {cut} bytes"
            );
        }
    }
}

#[test]
fn damaged_files_give_an_error_or_an_image_of_the_declared_size() {
    let mut state = 1u64;
    let mut random = |n: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let limits = ImageLimits {
        max_pixels: 1 << 16,
        max_bytes: 1 << 20,
    };
    for format in FORMATS {
        let whole = encode(&photo(24, 17).into(), format);
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            if let Ok(image) = decode_image(&bytes, "image", &limits) {
                assert!(u64::from(image.width()) * u64::from(image.height()) <= limits.max_pixels);
            }
        }
    }
}

#[test]
fn what_is_no_image_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let words = |path: &Path| {
        read_image(path, &ImageLimits::default())
            .unwrap_err()
            .to_string()
    };
    fs::write(path("empty.png"), b"").unwrap();
    fs::write(path("text.jpg"), b"this is a letter, not an image").unwrap();
    fs::write(
        path("vector.png"),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    )
    .unwrap();
    let named = |name: &str, what: &str| {
        assert_eq!(
            words(&path(name)),
            format!("{}: {what}", path(name).display())
        );
    };
    named("missing.png", "cannot be read: no such file or folder");
    named("", "cannot be read: is a folder, not a file");
    named("empty.png", "the file is empty");
    let formats = "JPEG, PNG, WebP, TIFF, BMP and GIF are read";
    named("text.jpg", &format!("is not an image; {formats}"));
    named("vector.png", &format!("is not an image; {formats}"));
    let avif = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf";
    let error = decode(avif).unwrap_err();
    assert!(matches!(error, ImageError::Unsupported { .. }));
    assert_eq!(error.to_string(), format!("image: is AVIF; {formats}"));
}

#[test]
fn limits_are_decided_from_the_header() {
    let error = decode(&png_header(30_000, 30_000)).unwrap_err();
    assert!(matches!(error, ImageError::Limits { .. }));
    assert_eq!(
        error.to_string(),
        "image: 30000x30000 is 900000000 pixels, the limit is 100000000 \
         (raise max_pixels to read it)"
    );
    let bytes = encode(&photo(100, 100).into(), ImageFormat::Png);
    let refuse = |max_pixels, max_bytes| {
        let limits = ImageLimits {
            max_pixels,
            max_bytes,
        };
        let error = decode_image(&bytes, "p", &limits).unwrap_err();
        assert!(matches!(error, ImageError::Limits { .. }), "{error}");
    };
    refuse(9_999, 1 << 20);
    refuse(10_000, 20_000);
    refuse(10_000, 10);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.png");
    fs::write(&path, &bytes).unwrap();
    let limits = ImageLimits {
        max_bytes: 10,
        ..ImageLimits::default()
    };
    assert!(matches!(
        read_image(&path, &limits),
        Err(ImageError::Limits { .. })
    ));
    // Every format refuses by its own header.
    for format in FORMATS {
        let bytes = encode(&photo(100, 100).into(), format);
        let limits = ImageLimits {
            max_pixels: 5_000,
            ..ImageLimits::default()
        };
        let error = decode_image(&bytes, "p", &limits).unwrap_err();
        assert!(
            matches!(error, ImageError::Limits { .. }),
            "{format:?}: {error}"
        );
    }
}

#[test]
fn very_thin_images_are_refused() {
    let error = decode(&png_header(131_073, 1)).unwrap_err();
    assert!(matches!(error, ImageError::Limits { .. }));
    let why = "image: 131073x1 is too long, the limit is 131072 pixels a side";
    assert_eq!(error.to_string(), why);
}

#[test]
fn labels_are_neither_lossy_nor_smooth_and_a_mask_is_one_object() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, image: &GrayImage| {
        let path = folder.path().join(name);
        image.save(&path).unwrap();
        path
    };
    let limits = ImageLimits::default();
    let two = GrayImage::from_fn(60, 40, |x, y| match (x, y) {
        (5..20, 5..30) => Luma([1]),
        (30..50, 10..20) => Luma([2]),
        _ => Luma([0]),
    });
    let path = write("two.png", &two);
    assert_eq!(read_label_map(&path, &limits).unwrap().objects.len(), 2);
    let error = read_mask(&path, &limits).unwrap_err().to_string();
    let why =
        "holds several objects, by its values 1, 2; a mask is one object: 0 and one other value";
    assert!(error.ends_with(why), "{error}");

    let disc = GrayImage::from_fn(60, 40, |x, y| {
        let distance = (f64::from(x) - 30.0).hypot(f64::from(y) - 20.0);
        Luma([((15.5 - distance).clamp(0.0, 1.0) * 255.0) as u8])
    });
    // Smooth edges are no objects, and no trouble for a mask.
    let path = write("disc.png", &disc);
    let error = read_label_map(&path, &limits).unwrap_err().to_string();
    assert!(
        error.contains("fill no 2×2 pixels, as smooth edges have them"),
        "{error}"
    );
    let area = read_mask(&path, &limits).unwrap().area() as f64;
    assert!((area - 706.0).abs() < 30.0, "{area}");
    // Nor is what JPEG makes of an edge.
    let path = write("disc.jpg", &disc);
    let error = read_label_map(&path, &limits).unwrap_err().to_string();
    assert!(error.contains("compressed with loss"), "{error}");
    assert!((read_mask(&path, &limits).unwrap().area() as f64 - area).abs() < 10.0);
}

#[test]
fn animations_are_told_and_their_frames_chosen() {
    let mut gif = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
        for level in [40, 90, 200] {
            let frame = image::RgbaImage::from_pixel(8, 6, Rgba([level, level, level, 255]));
            encoder.encode_frame(image::Frame::new(frame)).unwrap();
        }
    }
    let read = |page| {
        let options = ReadOptions {
            page,
            ..ReadOptions::default()
        };
        decode_image_with(&gif, "a.gif", &options)
    };
    for (page, level, warnings) in [(0, 40_u8, 1), (1, 90, 0), (2, 200, 0)] {
        let read = read(page).unwrap();
        assert!(read.image[(3, 3)].0[0].abs_diff(level) < 4);
        assert_eq!(read.warnings.len(), warnings);
    }
    let error = read(3).unwrap_err().to_string();
    assert_eq!(
        error,
        "a.gif: has 3 pages, counted from 0: there is no page 3"
    );
    // A PNG of two frames.
    let mut png = Vec::new();
    {
        let mut encoder = png::Encoder::new(&mut png, 8, 6);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_animated(2, 0).unwrap();
        let mut writer = encoder.write_header().unwrap();
        for level in [40, 90] {
            writer.write_image_data(&[level; 48]).unwrap();
        }
    }
    let read = |page| {
        let options = ReadOptions {
            page,
            ..ReadOptions::default()
        };
        decode_image_with(&png, "a.png", &options)
    };
    for (page, level, warnings) in [(0, 40_u8, 1), (1, 90, 0)] {
        let read = read(page).unwrap();
        assert_eq!(read.image[(3, 3)].0, [level; 3]);
        assert_eq!(read.warnings.len(), warnings);
    }
    let png = encode(&photo(8, 6).into(), ImageFormat::Png);
    let options = ReadOptions {
        page: 1,
        ..ReadOptions::default()
    };
    assert!(decode_image_with(&png, "a.png", &options).is_err());
}

#[test]
fn one_hot_pixel_is_told_and_left_out_by_percentiles() {
    let image = image::ImageBuffer::from_fn(60, 40, |x, y| {
        Luma([if (x, y) == (3, 3) {
            65535
        } else {
            400 + 37 * x as u16
        }])
    });
    let png = encode(&DynamicImage::ImageLuma16(image), ImageFormat::Png);
    let read = |stretch: &str| {
        let options = ReadOptions {
            stretch: stretch.parse().unwrap(),
            ..ReadOptions::default()
        };
        let read = decode_image_with(&png, "a.png", &options).unwrap();
        (read.image[(59, 20)].0[0], read.warnings.len())
    };
    assert_eq!(read("off"), (10, 1));
    assert_eq!(read("min-max"), (9, 1));
    assert_eq!(read("0,99.9"), (255, 0));
}

#[test]
fn samples_become_eight_bit_rgb() {
    let one = |image: DynamicImage| decode(&encode(&image, ImageFormat::Png)).unwrap()[(0, 0)].0;
    let grey16 = |v| DynamicImage::ImageLuma16(image::ImageBuffer::from_pixel(1, 1, Luma([v])));
    for v in [0, 128, 129, 384, 386, 32768, 65406, 65407, 65535u16] {
        let expected = (f64::from(v) / 257.0).round() as u8;
        assert_eq!(one(grey16(v)), [expected; 3], "{v}");
    }
    let grey_alpha = image::ImageBuffer::from_pixel(1, 1, LumaA([100u8, 0]));
    assert_eq!(one(DynamicImage::ImageLumaA8(grey_alpha)), [255; 3]);
    let half = image::RgbaImage::from_pixel(1, 1, Rgba([200, 0, 100, 128]));
    assert_eq!(one(half.into()), [227, 127, 177]);
}

/// The JPEG with an EXIF segment that holds nothing but an orientation.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
    exif.extend([0, orientation, 0, 0, 0, 0, 0, 0]);
    let mut file = jpeg[..2].to_vec();
    file.extend([0xFF, 0xE1]);
    file.extend((exif.len() as u16 + 2).to_be_bytes());
    file.extend(exif);
    file.extend(&jpeg[2..]);
    file
}

#[test]
fn exif_orientation_is_applied() {
    let image = photo(48, 16);
    let jpeg = encode(&image.into(), ImageFormat::Jpeg);
    let upright = decode(&jpeg).unwrap();
    let turned = |o| decode(&with_orientation(&jpeg, o)).unwrap();
    assert_eq!(turned(1), upright);
    assert_eq!(turned(3), image::imageops::rotate180(&upright));
    assert_eq!(turned(6), image::imageops::rotate90(&upright));
    assert_eq!(turned(8), image::imageops::rotate270(&upright));
    assert_eq!(turned(77), upright);
}

#[test]
fn masks_come_from_luma_or_alpha() {
    let shape = Mask::from_fn(20, 10, |x, y| x > 3 && y < 6);
    let limits = ImageLimits::default();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.png");
    shape.save_png(&path).unwrap();
    assert_eq!(read_mask(&path, &limits).unwrap(), shape);
    let inside = |x, y| u8::from(shape.get(x, y)) * 255;
    let cut_out = image::RgbaImage::from_fn(20, 10, |x, y| Rgba([9, 9, 9, inside(x, y)]));
    let bytes = encode(&cut_out.into(), ImageFormat::Png);
    assert_eq!(decode_mask(&bytes, "m", &limits).unwrap(), shape);
    let opaque = image::RgbaImage::from_fn(20, 10, |x, y| Rgba([inside(x, y); 4].map(|v| v)));
    let opaque = DynamicImage::ImageRgba8(opaque);
    let bytes = encode(&opaque.to_rgb8().into(), ImageFormat::Bmp);
    assert_eq!(decode_mask(&bytes, "m", &limits).unwrap(), shape);
}

#[test]
fn a_picture_in_colours_is_no_mask() {
    let limits = ImageLimits::default();
    let disc = Mask::from_fn(96, 64, |x, y| {
        x.abs_diff(48).pow(2) + y.abs_diff(32).pow(2) < 400
    });
    let soft = image::imageops::blur(&disc.to_luma(), 1.0);
    // In the colours of JPEG, with a tone of its own, and with soft edges.
    for colour in [[255, 255, 255], [220, 30, 40], [30, 40, 220]] {
        let tinted = RgbImage::from_fn(96, 64, |x, y| {
            Rgb(colour.map(|v: u8| (u16::from(v) * u16::from(soft.get_pixel(x, y)[0]) / 255) as u8))
        });
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let bytes = encode(&tinted.clone().into(), format);
            let mask = decode_mask(&bytes, "m", &limits).unwrap();
            assert!(
                mask.iou(&disc) > 0.9,
                "{colour:?} {format:?}: {}",
                mask.iou(&disc)
            );
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let bytes = encode(&photo(96, 64).into(), format);
        let error = decode_mask(&bytes, "photo", &limits)
            .unwrap_err()
            .to_string();
        let why = "photo: is a picture in colours, and a mask is wanted: white where the object is";
        assert!(error.starts_with(why), "{error}");
        let path = folder.path().join("photo");
        fs::write(&path, bytes).unwrap();
        assert!(samara_image::read_gray16(&path, &limits).is_err());
    }
}

#[test]
fn saving_is_atomic_and_names_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let image = photo(9, 9);
    let png = folder.path().join("a.png");
    save_png(&png, &image).unwrap();
    assert_eq!(read_image(&png, &ImageLimits::default()).unwrap(), image);
    save_image(folder.path().join("a.JPG"), &image).unwrap();
    save_image(folder.path().join("plain"), &image).unwrap();
    let error = save_image(folder.path().join("a.xyz"), &image).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("saved as .png, .jpg or .jpeg, not .xyz"),
        "{error}"
    );
    let nowhere = folder.path().join("no/such/a.png");
    let text = save_png(&nowhere, &image).unwrap_err().to_string();
    assert_eq!(
        text,
        format!(
            "{}: cannot be written: no such file or folder",
            nowhere.display()
        )
    );
    let text = write_atomic(folder.path(), b"x").unwrap_err().to_string();
    assert!(text.ends_with("is a folder, not a file"), "{text}");
    let below_file = png.join("b.png");
    let text = write_atomic(&below_file, b"x").unwrap_err().to_string();
    assert!(
        text.ends_with("a part of the path is not a folder"),
        "{text}"
    );
    assert!(save_png(folder.path().join("none.png"), &RgbImage::new(0, 0)).is_err());
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[cfg(unix)]
#[test]
fn saving_keeps_links_devices_and_permissions() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    write_atomic(&target, b"old").unwrap();
    symlink(&target, &link).unwrap();
    write_atomic(&link, b"new").unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"new");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let plain = folder.path().join("plain");
    fs::write(&plain, b"").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&target), mode(&plain));
    write_atomic("/dev/null", b"x").unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[cfg(unix)]
#[test]
fn an_unwritable_folder_and_a_full_disk_are_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    // The superuser may write everywhere; then there is nothing to refuse.
    if let Err(error) = write_atomic(closed.join("a"), b"x") {
        assert!(
            error
                .to_string()
                .ends_with("cannot be written: permission denied"),
            "{error}"
        );
    }
    if Path::new("/dev/full").exists() {
        let error = write_atomic("/dev/full", b"x").unwrap_err().to_string();
        assert_eq!(
            error,
            "/dev/full: cannot be written: no space left on the disk"
        );
    }
}
