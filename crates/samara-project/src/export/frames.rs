//! The frames of videos that are exported.

use samara_image::{FrameSource, ImageLimits, RgbImage, open_video};

use crate::ids::PictureId;
use crate::pictures::Picture;
use crate::project::Project;
use crate::video_file::sha256_of;

/// Why what is drawn is left out.
pub(super) const OTHER: &str = "is another file than that on which its masks were drawn";

type Source = Result<Box<dyn FrameSource>, String>;

/// Reads frames of one video after the other.
#[derive(Default)]
pub(super) struct Frames {
    open: Option<(PictureId, Source)>,
}

impl Frames {
    /// The pixels of a frame, or why it cannot be used.
    pub(super) fn read(&mut self, project: &Project, frame: &Picture) -> Result<RgbImage, String> {
        let video = frame.owner();
        let index = frame.frame.unwrap_or_default() as usize;
        if self.open.as_ref().is_none_or(|(open, _)| *open != video) {
            self.open = Some((video, open(project, video)));
        }
        let Some((_, source)) = &mut self.open else {
            return Err("cannot be opened".into());
        };
        let source = source.as_mut().map_err(|why| why.clone())?;
        let read = source.read(index);
        let image = read.map_err(|error| error.reason().to_owned())?;
        let image = image.ok_or("is past the end of the video")?;
        if image.dimensions() != (frame.width, frame.height) {
            return Err(OTHER.into());
        }
        Ok(image)
    }
}

fn open(project: &Project, video: PictureId) -> Source {
    let video = project.picture(video).map_err(|error| error.to_string())?;
    let path = project.folder().join(&video.path);
    let sum = sha256_of(&path).map_err(|error| format!("cannot be read: {error}"))?;
    if video.sha256.is_none_or(|known| known != sum) {
        return Err(OTHER.into());
    }
    open_video(&path, &ImageLimits::default()).map_err(|error| error.reason().to_owned())
}
