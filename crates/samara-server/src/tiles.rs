//! Pictures in parts, at every size: what a page needs of a picture that is too large to be sent as a whole.

use std::sync::Arc;

use axum::body::Bytes;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use rayon::prelude::*;
use samara_image::{GrayImage16, Rgb, RgbImage, encode_jpeg, resize_bilinear};
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::blocking::blocking;
use crate::config::SHOWN;
use crate::error::{Problem, Result};
use crate::images::{Image, ImageId};

/// Pixels of a tile's side.
pub(crate) const SIDE: u32 = 512;
/// Pixels of a thumbnail's longer side.
const THUMBNAIL: u32 = 192;
/// Quality of a tile's JPEG.
const QUALITY: u8 = 92;
/// Bytes of pictures that are kept in all sizes, at least.
const PYRAMIDS_BYTES: u64 = 512 << 20;
/// Bytes of tiles that are kept as they are sent.
const TILES_BYTES: u64 = 64 << 20;
/// Values looked at for percentiles.
const LOOKED_AT: usize = 1 << 18;

/// Which values of 16-bit grey become black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
pub(crate) struct Depth {
    /// The value that is shown black, as those below.
    low: u16,
    /// The value that is shown white, as those above.
    high: u16,
    /// The highest value that samples can have.
    max: u16,
}

impl Depth {
    /// Samples of 8 bits, which are shown as they are.
    pub(crate) const BYTES: Self = Self {
        low: 0,
        high: 255,
        max: 255,
    };

    /// For the tag of a tile.
    pub(crate) fn text(self) -> String {
        format!("-{}-{}", self.low, self.high)
    }

    /// The values between which nearly all lie.
    fn of(gray: &GrayImage16) -> Self {
        let values = gray.as_raw();
        let step = (values.len() / LOOKED_AT).max(1);
        let mut some: Vec<u16> = values.iter().copied().step_by(step).collect();
        some.sort_unstable();
        let last = some.len().saturating_sub(1);
        let [low, high] = SHOWN.map(|percent| (percent / 100.0 * last as f32).round() as usize);
        let at = |index: usize| some.get(index).copied().unwrap_or_default();
        let low = at(low).min(u16::MAX - 1);
        Self {
            low,
            high: at(high).max(low + 1),
            max: u16::MAX,
        }
    }

    /// The same with other ends.
    pub(crate) fn within(self, low: Option<u16>, high: Option<u16>) -> Result<Self> {
        let (low, high) = (low.unwrap_or(self.low), high.unwrap_or(self.high));
        if low >= high {
            let detail = format!("{high}: more than low, {low}, is expected");
            return Err(Problem::field("high", detail));
        }
        Ok(Self { low, high, ..self })
    }

    fn byte(self, value: u16) -> u8 {
        let span = u32::from(self.high - self.low);
        let above = u32::from(value.clamp(self.low, self.high) - self.low);
        ((255 * above + span / 2) / span) as u8
    }
}

/// A picture in one size.
enum Level {
    Colour(Arc<RgbImage>),
    Gray(Arc<GrayImage16>),
}

impl Level {
    fn dimensions(&self) -> (u32, u32) {
        match self {
            Self::Colour(image) => image.dimensions(),
            Self::Gray(image) => image.dimensions(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Colour(image) => image.as_raw().len(),
            Self::Gray(image) => 2 * image.as_raw().len(),
        }
    }

    /// Half of it; the last column and row of an odd size stand for themselves.
    fn half(&self) -> Self {
        let (width, height) = self.dimensions();
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        // The buffers have the size that they are made for.
        match self {
            Self::Colour(image) => {
                let half = halved::<u8, 3>(image.as_raw(), width, height);
                let half = RgbImage::from_raw(half_width, half_height, half);
                Self::Colour(Arc::new(half.unwrap_or_default()))
            }
            Self::Gray(image) => {
                let half = halved::<u16, 1>(image.as_raw(), width, height);
                let half = GrayImage16::from_raw(half_width, half_height, half);
                Self::Gray(Arc::new(half.unwrap_or_default()))
            }
        }
    }

    /// A part of it as it is shown.
    fn part(&self, [left, top, width, height]: [u32; 4], depth: Depth) -> RgbImage {
        match self {
            Self::Colour(image) => {
                let row = 3 * image.width() as usize;
                let from = 3 * left as usize;
                let rows = image.as_raw().chunks_exact(row.max(1));
                let rows = rows.skip(top as usize).take(height as usize);
                let part = rows.flat_map(|row| &row[from..from + 3 * width as usize]);
                let part = part.copied().collect();
                RgbImage::from_raw(width, height, part).unwrap_or_default()
            }
            Self::Gray(image) => RgbImage::from_fn(width, height, |x, y| {
                Rgb([depth.byte(image.get_pixel(left + x, top + y).0[0]); 3])
            }),
        }
    }
}

/// Every pixel the mean of four.
fn halved<T, const CHANNELS: usize>(samples: &[T], width: u32, height: u32) -> Vec<T>
where
    T: Copy + Default + Send + Sync + Into<u32> + TryFrom<u32>,
{
    let (width, height) = (width as usize, height as usize);
    let half = width.div_ceil(2);
    let mut halved = vec![T::default(); CHANNELS * half * height.div_ceil(2)];
    let rows = halved.par_chunks_exact_mut((CHANNELS * half).max(1));
    rows.enumerate().for_each(|(y, row)| {
        let row_of =
            |y: usize| &samples[CHANNELS * width * y.min(height - 1)..][..CHANNELS * width];
        let (upper, lower) = (row_of(2 * y), row_of(2 * y + 1));
        for (x, pixel) in row.chunks_exact_mut(CHANNELS).enumerate() {
            let left = CHANNELS * 2 * x;
            let right = CHANNELS * (2 * x + 1).min(width - 1);
            for (channel, sample) in pixel.iter_mut().enumerate() {
                let [a, b] = [upper[left + channel], upper[right + channel]].map(Into::into);
                let [c, d] = [lower[left + channel], lower[right + channel]].map(Into::into);
                *sample = T::try_from((a + b + c + d + 2) / 4).unwrap_or_default();
            }
        }
    });
    halved
}

/// A picture in all sizes, each half of the one before, to one pixel.
pub(crate) struct Pyramid {
    image: Image,
    levels: Vec<Level>,
    depth: Depth,
}

impl Pyramid {
    pub(crate) fn new(image: &Image) -> Self {
        let (first, depth) = match &image.gray {
            Some(gray) => (Level::Gray(Arc::clone(gray)), Depth::of(gray)),
            None => (Level::Colour(Arc::clone(&image.pixels)), Depth::BYTES),
        };
        let mut levels = vec![first];
        while let Some(last) = levels.last().filter(|last| last.dimensions() > (1, 1)) {
            let half = last.half();
            levels.push(half);
        }
        Self {
            image: image.clone(),
            levels,
            depth,
        }
    }

    fn memory(&self) -> u32 {
        let smaller: usize = self.levels.iter().skip(1).map(Level::bytes).sum();
        let smaller: u32 = smaller.try_into().unwrap_or(u32::MAX);
        smaller.saturating_add(self.image.memory())
    }

    /// The picture itself.
    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// The file that it is of.
    pub(crate) fn id(&self) -> &ImageId {
        &self.image.info.id
    }

    /// How 16-bit grey is shown if nothing else is said; `None` for anything else.
    pub(crate) fn depth(&self) -> Option<Depth> {
        self.image.gray.is_some().then_some(self.depth)
    }

    /// A small form of the whole, as JPEG.
    pub(crate) fn thumbnail(&self, quality: u8) -> Result<Vec<u8>> {
        let small = |level: &&Level| {
            let (width, height) = level.dimensions();
            width.max(height) >= THUMBNAIL
        };
        let Some(level) = self.levels.iter().rev().find(small).or(self.levels.first()) else {
            return Err(Problem::internal("a picture without pixels"));
        };
        let (width, height) = level.dimensions();
        let image = level.part([0, 0, width, height], self.depth);
        let longer = f64::from(width.max(height));
        let scale = (f64::from(THUMBNAIL) / longer).min(1.0);
        let side = |side: u32| (f64::from(side) * scale).round().max(1.0) as u32;
        let image = resize_bilinear(&image, side(width), side(height));
        Ok(encode_jpeg(&image, quality)?)
    }

    /// A tile, if there is one, as JPEG.
    fn tile(&self, at: TileAt, depth: Depth) -> Result<Vec<u8>> {
        let outside =
            || Problem::not_found("there is no such tile: it lies outside of the picture");
        let level = self.levels.get(at.level as usize).ok_or_else(outside)?;
        let (width, height) = level.dimensions();
        let start = |at: u32, size: u32| at.checked_mul(SIDE).filter(|start| *start < size);
        let left = start(at.x, width).ok_or_else(outside)?;
        let top = start(at.y, height).ok_or_else(outside)?;
        let part = [left, top, SIDE.min(width - left), SIDE.min(height - top)];
        Ok(encode_jpeg(&level.part(part, depth), QUALITY)?)
    }
}

/// Which tile: `level` times halved, the `x`th from the left and the `y`th from above, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TileAt {
    pub(crate) level: u32,
    pub(crate) x: u32,
    pub(crate) y: u32,
}

/// What is kept of pictures in parts.
pub(crate) struct Tiles {
    pyramids: Cache<ImageId, Arc<Pyramid>>,
    /// Tiles as they are sent.
    sent: Cache<(ImageId, TileAt, Depth), Bytes>,
    /// One picture at a time is brought into all sizes, for all who wait for it.
    building: Arc<Mutex<()>>,
}

impl Tiles {
    /// For pictures of at most so many pixels, of which one at least is kept.
    pub(crate) fn new(most_pixels: u64) -> Self {
        // Three bytes a pixel, two more of 16-bit grey, and a third of that for all smaller sizes.
        let one = most_pixels.saturating_mul(7);
        let pyramids = Cache::builder()
            .max_capacity(PYRAMIDS_BYTES.max(one))
            .weigher(|_: &ImageId, pyramid: &Arc<Pyramid>| pyramid.memory())
            .eviction_policy(EvictionPolicy::lru());
        let tiles = Cache::builder()
            .max_capacity(TILES_BYTES)
            .weigher(|_, tile: &Bytes| tile.len().try_into().unwrap_or(u32::MAX));
        Self {
            pyramids: pyramids.build(),
            sent: tiles.build(),
            building: Arc::default(),
        }
    }

    /// A picture in all sizes, if it is kept.
    pub(crate) fn get(&self, id: &ImageId) -> Option<Arc<Pyramid>> {
        self.pyramids.get(id)
    }

    /// A picture in all sizes.
    pub(crate) async fn of(&self, image: Image) -> Result<Arc<Pyramid>> {
        let id = image.info.id.clone();
        if let Some(pyramid) = self.get(&id) {
            return Ok(pyramid);
        }
        let turn = Arc::clone(&self.building).lock_owned().await;
        let pyramids = self.pyramids.clone();
        blocking(move || {
            let pyramid = pyramids.get_with(id, || Arc::new(Pyramid::new(&image)));
            drop(turn);
            pyramid
        })
        .await
    }

    /// A tile, as JPEG.
    pub(crate) async fn tile(
        &self,
        pyramid: Arc<Pyramid>,
        at: TileAt,
        depth: Depth,
    ) -> Result<Bytes> {
        let key = (pyramid.id().clone(), at, depth);
        if let Some(tile) = self.sent.get(&key) {
            return Ok(tile);
        }
        let tile = blocking(move || pyramid.tile(at, depth)).await??;
        let tile = Bytes::from(tile);
        self.sent.insert(key, tile.clone());
        Ok(tile)
    }
}
