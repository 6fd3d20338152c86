//! How large an image may be.

use crate::error::Error;

/// How large an image may be. Checked before anything is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Most pixels, width × height, of a decoded image.
    pub max_pixels: u64,
    /// Most bytes of the file, and of the decoded buffer.
    pub max_bytes: u64,
}

impl Default for ImageLimits {
    /// 100 million pixels and 1 GiB.
    fn default() -> Self {
        Self {
            max_pixels: 100_000_000,
            max_bytes: 1 << 30,
        }
    }
}

impl ImageLimits {
    /// The longest side of an image, in pixels: a very thin image costs more than its pixels do.
    pub const MAX_SIDE: u32 = 131_072;

    /// Refuses a size above [`max_pixels`](Self::max_pixels), and sides above [`MAX_SIDE`](Self::MAX_SIDE).
    ///
    /// # Errors
    /// [`Error::Limits`] naming `name`, the size and the limit.
    pub fn check_pixels(&self, width: u32, height: u32, name: &str) -> Result<(), Error> {
        let pixels = u64::from(width) * u64::from(height);
        let most = Self::MAX_SIDE;
        if width.max(height) > most {
            let what = format!("{width}x{height} is too long, the limit is {most} pixels a side");
            return Err(Error::limits(name, what));
        }
        if pixels <= self.max_pixels {
            return Ok(());
        }
        Err(Error::limits(
            name,
            format!(
                "{width}x{height} is {pixels} pixels, the limit is {} (raise max_pixels to read it)",
                self.max_pixels
            ),
        ))
    }

    pub(crate) fn check_bytes(&self, bytes: u64, what: &str, name: &str) -> Result<(), Error> {
        if bytes <= self.max_bytes {
            return Ok(());
        }
        Err(Error::limits(
            name,
            format!(
                "{what} is {bytes} bytes, the limit is {} (raise max_bytes to read it)",
                self.max_bytes
            ),
        ))
    }
}
