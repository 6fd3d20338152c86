//! Kinds of TIFFs, written field by field.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use samara_image::{
    Error, ImageLimits, ImageWarning, ReadOptions, RgbImage, Stretch, decode_image,
    decode_image_with, decode_mask,
};

const WIDTH: u32 = 4;
const HEIGHT: u32 = 3;
const PIXELS: usize = 12;

/// An uncompressed page of 4×3 pixels in one strip.
#[derive(Clone)]
struct Page {
    photometric: u16,
    bits: u16,
    samples: u16,
    /// 1: unsigned, 2: signed, 3: floating point.
    format: u16,
    data: Vec<u8>,
    more: Vec<(u16, u16, Vec<u8>)>,
    fewer: Vec<u16>,
}

impl Page {
    fn new(photometric: u16, bits: u16, samples: u16, format: u16, data: Vec<u8>) -> Self {
        Self {
            photometric,
            bits,
            samples,
            format,
            data,
            more: Vec::new(),
            fewer: Vec::new(),
        }
    }

    fn grey<const N: usize>(bits: u16, format: u16, values: [[u8; N]; PIXELS]) -> Self {
        Self::new(1, bits, 1, format, values.concat())
    }

    fn without(mut self, tags: &[u16]) -> Self {
        self.fewer.extend(tags);
        self
    }

    /// A field of further values: tag, type, bytes.
    fn with(mut self, tag: u16, kind: u16, bytes: &[u8]) -> Self {
        self.more.push((tag, kind, bytes.to_vec()));
        self
    }
}

/// Little-endian, with offsets of four or eight bytes.
fn tiff(pages: &[Page], big: bool) -> Vec<u8> {
    let offset = |v: usize| -> Vec<u8> {
        if big {
            (v as u64).to_le_bytes().to_vec()
        } else {
            (v as u32).to_le_bytes().to_vec()
        }
    };
    let mut file = b"II".to_vec();
    file.extend(if big {
        &[43, 0, 8, 0, 0, 0][..]
    } else {
        &[42, 0][..]
    });
    let mut link = file.len();
    file.extend(offset(0));
    for page in pages {
        let data = file.len();
        file.extend(&page.data);
        let short = |v: u16| v.to_le_bytes().to_vec();
        let mut fields = vec![
            (256, 3, short(WIDTH as u16)),
            (257, 3, short(HEIGHT as u16)),
            (258, 3, short(page.bits).repeat(page.samples.into())),
            (259, 3, short(1)),
            (262, 3, short(page.photometric)),
            (273, 4, (data as u32).to_le_bytes().to_vec()),
            (277, 3, short(page.samples)),
            (278, 3, short(HEIGHT as u16)),
            (279, 4, (page.data.len() as u32).to_le_bytes().to_vec()),
            (339, 3, short(page.format).repeat(page.samples.into())),
        ];
        for more in &page.more {
            fields.retain(|field| field.0 != more.0);
            fields.push(more.clone());
        }
        fields.retain(|field| !page.fewer.contains(&field.0));
        fields.sort();
        let room = if big { 8 } else { 4 };
        let mut directory = if big {
            (fields.len() as u64).to_le_bytes().to_vec()
        } else {
            (fields.len() as u16).to_le_bytes().to_vec()
        };
        for (tag, kind, mut bytes) in fields {
            let count = bytes.len() / if kind == 4 { 4 } else { 2 };
            directory.extend(tag.to_le_bytes());
            directory.extend(kind.to_le_bytes());
            directory.extend(offset(count));
            if bytes.len() > room {
                directory.extend(offset(file.len()));
                file.extend(bytes);
            } else {
                bytes.resize(room, 0);
                directory.extend(bytes);
            }
        }
        let at = offset(file.len());
        file[link..link + at.len()].copy_from_slice(&at);
        file.extend(directory);
        link = file.len();
        file.extend(offset(0));
    }
    file
}

fn read(file: &[u8], options: &ReadOptions) -> (RgbImage, Vec<ImageWarning>) {
    let read = decode_image_with(file, "a.tif", options).unwrap();
    (read.image, read.warnings)
}

/// Grey levels of the one page.
fn levels(page: Page, stretch: Stretch) -> (Vec<u8>, Vec<ImageWarning>) {
    let options = ReadOptions {
        stretch,
        ..ReadOptions::default()
    };
    let (image, warnings) = read(&tiff(&[page], false), &options);
    assert_eq!(image.dimensions(), (WIDTH, HEIGHT));
    for pixel in image.pixels() {
        assert_eq!(pixel.0, [pixel[0]; 3]);
    }
    (image.pixels().map(|p| p[0]).collect(), warnings)
}

const LEVELS: [u8; PIXELS] = [0, 23, 46, 70, 93, 116, 139, 162, 185, 209, 232, 255];

#[test]
fn every_type_of_grey_is_as_the_8_bit_image() {
    let same = |page: Page| {
        let kind = (page.bits, page.format);
        assert_eq!(
            levels(page, Stretch::Off),
            (LEVELS.to_vec(), Vec::new()),
            "{kind:?}"
        );
    };
    same(Page::grey(8, 1, LEVELS.map(|v| [v])));
    same(Page::grey(
        16,
        1,
        LEVELS.map(|v| (u16::from(v) * 257).to_le_bytes()),
    ));
    same(Page::grey(
        32,
        1,
        LEVELS.map(|v| (u32::from(v) * 0x0101_0101).to_le_bytes()),
    ));
    same(Page::grey(
        16,
        2,
        LEVELS
            .map(|v| (i32::from(v) * 257 - 32768) as i16)
            .map(i16::to_le_bytes),
    ));
    same(Page::grey(
        32,
        2,
        LEVELS
            .map(|v| (i64::from(v) * 0x0101_0101 - (1 << 31)) as i32)
            .map(i32::to_le_bytes),
    ));
    same(Page::grey(
        32,
        3,
        LEVELS.map(|v| (f32::from(v) / 255.0).to_le_bytes()),
    ));
    same(Page::grey(
        64,
        3,
        LEVELS.map(|v| (f64::from(v) / 255.0).to_le_bytes()),
    ));
    let white_is_zero = Page::new(0, 8, 1, 1, LEVELS.iter().map(|v| 255 - v).collect());
    same(white_is_zero);
    // Four bits a sample: two pixels a byte.
    let packed = Page::new(1, 4, 1, 1, vec![0x01, 0x23, 0x45, 0x67, 0x89, 0xaf]);
    let right: Vec<u8> = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15]
        .map(|v| v * 17)
        .to_vec();
    assert_eq!(levels(packed, Stretch::Off), (right, Vec::new()));
}

#[test]
fn values_that_use_little_of_their_range_are_told_and_stretched() {
    let low = || {
        Page::grey(
            16,
            1,
            LEVELS.map(|v| (200 + u16::from(v) * 6).to_le_bytes()),
        )
    };
    let (image, warnings) = levels(low(), Stretch::Off);
    assert!(image.iter().all(|&v| v < 8), "{image:?}");
    let told = ImageWarning::LowRange {
        used: [200.0, 1730.0],
        range: [0.0, 65535.0],
    };
    assert_eq!(warnings, [told]);
    assert!(
        warnings[0]
            .to_string()
            .starts_with("values from 200 to 1730 use 2.3 % of their range")
    );
    assert_eq!(
        levels(low(), Stretch::MinMax),
        (LEVELS.to_vec(), Vec::new())
    );
    let (image, _) = levels(low(), Stretch::Percentiles(10.0, 90.0));
    assert_eq!((image[0], image[1], image[10], image[11]), (0, 0, 255, 255));
    assert!(image.is_sorted());
    let words = [0, u32::from(u16::MAX)].map(u32::to_le_bytes);
    let wide = Page::grey(32, 1, std::array::from_fn::<_, PIXELS, _>(|i| words[i % 2]));
    let told = levels(wide, Stretch::Off).1[0].to_string();
    let right =
        "values from 0 to 65535 use less than 0.1 % of their range, 0 to 4.295e9: as 8 bits";
    assert!(told.starts_with(right), "{told}");
    // 8 bits stay as they are.
    let eight = Page::grey(8, 1, LEVELS.map(|v| [v / 4]));
    assert_eq!(
        levels(eight.clone(), Stretch::Off),
        levels(eight, Stretch::MinMax)
    );
    // No value, no range.
    let none = Page::grey(32, 3, [f32::NAN.to_le_bytes(); PIXELS]);
    let told = vec![ImageWarning::NotFinite { share: 1.0 }];
    assert_eq!(levels(none, Stretch::MinMax), (vec![0; PIXELS], told));
}

#[test]
fn floats_outside_of_0_to_1_are_told_and_stretched() {
    let page = || Page::grey(32, 3, LEVELS.map(|v| f32::from(v).to_le_bytes()));
    let (_, warnings) = levels(page(), Stretch::Off);
    let told = ImageWarning::Clipped {
        used: [0.0, 255.0],
        range: [0.0, 1.0],
        share: 11.0 / 12.0,
    };
    assert_eq!(warnings, [told]);
    assert_eq!(
        levels(page(), Stretch::MinMax),
        (LEVELS.to_vec(), Vec::new())
    );
}

#[test]
fn pages_are_told_and_chosen() {
    let page = |v: u8| Page::grey(8, 1, [[v]; PIXELS]);
    // A smaller copy is no page.
    let copy = page(9).with(254, 4, &[1, 0, 0, 0]);
    let file = tiff(&[page(10), copy, page(20), page(30)], false);
    let (image, warnings) = read(&file, &ReadOptions::default());
    assert_eq!(image.get_pixel(0, 0).0, [10; 3]);
    assert_eq!(warnings, [ImageWarning::Pages { pages: Some(3) }]);
    for (page, level) in [(1, 20), (2, 30)] {
        let options = ReadOptions {
            page,
            ..ReadOptions::default()
        };
        let (image, warnings) = read(&file, &options);
        assert_eq!((image.get_pixel(0, 0)[0], warnings.len()), (level, 0));
    }
    let options = ReadOptions {
        page: 3,
        ..ReadOptions::default()
    };
    let error = decode_image_with(&file, "a.tif", &options).unwrap_err();
    let why = "a.tif: has 3 pages, counted from 0: there is no page 3";
    assert_eq!(error.to_string(), why);
}

#[test]
fn big_palette_ycbcr_cmyk_planar_and_zstandard() {
    let colors: Vec<u8> = (0..PIXELS as u8)
        .flat_map(|i| [20 * i, 255 - i, 7 * i])
        .collect();
    let right = RgbImage::from_raw(WIDTH, HEIGHT, colors.clone()).unwrap();
    let image = |page: Page, big| {
        let (image, warnings) = read(&tiff(&[page], big), &ReadOptions::default());
        assert_eq!(warnings, []);
        image
    };
    let rgb = Page::new(2, 8, 3, 1, colors.clone());
    assert_eq!(image(rgb.clone(), true), right);
    let planes = (0..3).flat_map(|c| colors.iter().skip(c).step_by(3).copied());
    let planar = Page::new(2, 8, 3, 1, planes.collect());
    // Each plane is a strip.
    let starts: Vec<u8> = (0..3_u32)
        .flat_map(|i| (8 + i * 12).to_le_bytes())
        .collect();
    let sizes = 12_u32.to_le_bytes().repeat(3);
    let planar = planar
        .with(284, 3, &[2, 0])
        .with(273, 4, &starts)
        .with(279, 4, &sizes);
    assert_eq!(image(planar, false), right);

    let map: Vec<u8> = (0..3)
        .flat_map(|c| (0..256).map(move |i| (c, i)))
        .map(|(c, i)| colors.get(3 * i + c).copied().unwrap_or(0))
        .flat_map(|v| (u16::from(v) * 257).to_le_bytes())
        .collect();
    let palette = Page::new(3, 8, 1, 1, (0..PIXELS as u8).collect()).with(320, 3, &map);
    assert_eq!(image(palette.clone(), false), right);
    assert_eq!(image(palette, true), right);

    let grey = Page::new(
        6,
        8,
        3,
        1,
        LEVELS.iter().flat_map(|&v| [v, 128, 128]).collect(),
    );
    let subsampling = [1, 0, 1, 0];
    let ycbcr = image(grey.clone().with(530, 3, &subsampling), false);
    assert!(ycbcr.pixels().zip(LEVELS).all(|(p, v)| p.0 == [v; 3]));
    let error = decode_image(&tiff(&[grey], false), "a.tif", &ImageLimits::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("a.tif: has YCbCr pixels with subsampled colour"),
        "{error}"
    );

    let cmyk = Page::new(
        5,
        8,
        4,
        1,
        LEVELS.iter().flat_map(|&v| [0, 0, 0, 255 - v]).collect(),
    );
    assert!(
        image(cmyk, false)
            .pixels()
            .zip(LEVELS)
            .all(|(p, v)| p[0].abs_diff(v) <= 1)
    );

    // A frame of one raw block.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, colors.len() as u8];
    frame.extend([(colors.len() << 3 | 1) as u8, (colors.len() >> 5) as u8, 0]);
    frame.extend(&colors);
    let zstandard = Page::new(2, 8, 3, 1, frame).with(259, 3, &50_000_u16.to_le_bytes());
    assert_eq!(image(zstandard, false), right);
}

#[test]
fn bands_are_told() {
    let bands: Vec<u8> = (0..PIXELS as u8)
        .flat_map(|i| [i, 2 * i, 3 * i, 200])
        .collect();
    let (image, warnings) = read(
        &tiff(&[Page::new(1, 8, 4, 1, bands)], false),
        &ReadOptions::default(),
    );
    assert_eq!(image.get_pixel(3, 2).0, [11, 22, 33]);
    assert_eq!(warnings, [ImageWarning::Bands { bands: 4 }]);
}

#[test]
fn what_is_not_read_is_one_plain_line() {
    let lab = tiff(&[Page::new(8, 8, 3, 1, vec![0; 36])], false);
    let unknown = Page::new(2, 8, 3, 1, vec![0; 36]).with(259, 3, &34_712_u16.to_le_bytes());
    let six = Page::new(1, 6, 1, 1, vec![0; 9]);
    let tiled = Page::new(2, 8, 3, 1, vec![0; 768])
        .with(284, 3, &[2, 0])
        .with(322, 3, &[16, 0])
        .with(323, 3, &[16, 0])
        .with(324, 4, &[8_u32, 264, 520].map(u32::to_le_bytes).concat())
        .with(325, 4, &[256_u32; 3].map(u32::to_le_bytes).concat())
        .without(&[273, 278, 279]);
    for (file, words) in [
        (tiff(&[six], false), "has grey pixels of 6 bits a sample"),
        (tiff(&[tiled], false), "has each colour in tiles of its own"),
        (lab, "has CIE Lab pixels"),
        (
            tiff(&[unknown], false),
            "has a compression method that is not read",
        ),
    ] {
        let error = decode_image(&file, "a.tif", &ImageLimits::default()).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.to_string().contains('('), "{error}");
    }
}

#[test]
fn a_mask_may_be_of_any_type() {
    let mask =
        |page: Page| decode_mask(&tiff(&[page], false), "a.tif", &ImageLimits::default()).unwrap();
    let inside = |i: usize| i32::from(i % 4 == 1);
    let of = |bits, format, bytes: fn(i32) -> Vec<u8>| {
        let values = (0..PIXELS).flat_map(|i| bytes(inside(i))).collect();
        mask(Page::new(1, bits, 1, format, values))
    };
    let byte = of(8, 1, |v| vec![v as u8]);
    assert_eq!(byte.area(), 3);
    assert_eq!(of(16, 1, |v| (v as u16).to_le_bytes().to_vec()), byte);
    assert_eq!(of(32, 2, |v| v.to_le_bytes().to_vec()), byte);
    assert_eq!(of(32, 3, |v| (v as f32).to_le_bytes().to_vec()), byte);
}

#[test]
fn opacity_may_be_multiplied_into_the_colours() {
    let straight: Vec<[u8; 4]> = (0..PIXELS as u8)
        .map(|i| [200, 20 * i, 9, 255 - 20 * i])
        .collect();
    let premultiplied = straight.iter().flat_map(|&[r, g, b, a]| {
        let times = |v: u8| ((u32::from(v) * u32::from(a) + 127) / 255) as u8;
        [times(r), times(g), times(b), a]
    });
    let page = |data: Vec<u8>, kind: u8| {
        let page = Page::new(2, 8, 4, 1, data).with(338, 3, &[kind, 0]);
        read(&tiff(&[page], false), &ReadOptions::default()).0
    };
    let right = page(straight.concat(), 2);
    let found = page(premultiplied.collect(), 1);
    for (a, b) in right.iter().zip(found.iter()) {
        assert!(a.abs_diff(*b) <= 1, "{a} {b}");
    }
}

#[test]
fn values_that_are_no_numbers_are_told() {
    let mut values = LEVELS.map(|v| f32::from(v) / 255.0);
    (values[3], values[7]) = (f32::NAN, f32::INFINITY);
    let (image, warnings) = levels(
        Page::grey(32, 3, values.map(f32::to_le_bytes)),
        Stretch::Off,
    );
    assert_eq!((image[0], image[11]), (0, 255));
    assert_eq!(warnings, [ImageWarning::NotFinite { share: 2.0 / 12.0 }]);
    // The span of these is none of 32 bits.
    let huge = LEVELS.map(|v| (f32::from(v) / 127.5 - 1.0) * 3e38);
    let (image, _) = levels(
        Page::grey(32, 3, huge.map(f32::to_le_bytes)),
        Stretch::MinMax,
    );
    assert!(
        image.iter().zip(LEVELS).all(|(&a, b)| a.abs_diff(b) <= 1),
        "{image:?}"
    );
}
