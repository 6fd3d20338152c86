//! COCO's file of annotations with its pictures.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::rc::Rc;

use samara_image::CocoWriter;
use serde::Serialize;

use crate::Result;
use crate::export::outline;
use crate::export::page::Page;
use crate::export::target::Target;
use crate::export::writer::Writer;
use crate::ids::TrackId;

/// `annotations.json`, and pictures in `images/` as they lie in the folder of the project.
struct Coco<'a> {
    target: &'a Target<'a>,
    writer: CocoWriter<Shared>,
    file: Shared,
    polygons: bool,
    cut: usize,
}

/// Begins the file with its classes.
pub(super) fn writer<'a>(
    target: &'a Target<'a>,
    labels: &[String],
    polygons: bool,
) -> Result<Box<dyn Writer + 'a>> {
    let begin = || -> io::Result<(CocoWriter<Shared>, Shared)> {
        let file = File::create_new(target.folder.path().join("annotations.json"))?;
        let file = Shared(Rc::new(RefCell::new(BufWriter::new(file))));
        let mut writer = CocoWriter::new(file.clone())?;
        for (label, id) in labels.iter().zip(1..) {
            writer.category(id, label);
        }
        Ok((writer, file))
    };
    let (writer, file) = begin().map_err(|error| target.folder.failed(error))?;
    Ok(Box::new(Coco {
        target,
        writer,
        file,
        polygons,
        cut: 0,
    }))
}

/// A file that is still there when its writer has finished, so that nothing goes wrong unseen.
#[derive(Clone)]
struct Shared(Rc<RefCell<BufWriter<File>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
}

/// What is said of an object beside its mask.
#[derive(Serialize)]
struct More<'a> {
    area: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicted_iou: Option<f32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: &'a BTreeMap<String, String>,
    /// Which object of a video.
    #[serde(skip_serializing_if = "Option::is_none")]
    track_id: Option<TrackId>,
    /// Whether somebody has drawn it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_keyframe: Option<bool>,
}

impl Writer for Coco<'_> {
    fn copy_of(&self, page: &Page<'_>) -> Option<String> {
        Some(format!("images/{}", page.picture.path))
    }

    fn write(&mut self, page: &Page<'_>) -> Result<()> {
        self.writer
            .image_of(page.split, &page.picture.path, page.size);
        for drawn in &page.objects {
            let content = &drawn.object.content;
            let rle = &content.mask;
            let more = More {
                area: rle.area(),
                predicted_iou: content.predicted_iou,
                attributes: &content.attributes,
                track_id: content.track.map(|track| track.id),
                is_keyframe: content.track.map(|track| track.is_keyframe),
            };
            let written = if self.polygons {
                let parts = outline::parts(&drawn.mask()?, self.target.options.tolerance);
                self.cut += usize::from(parts.iter().any(|part| !part.holes.is_empty()));
                let flat = |part| outline::with_holes(part).into_flattened();
                let parts: Vec<Vec<f64>> = parts.iter().map(flat).collect();
                self.writer.object_with(&drawn.label, rle, &parts, &more)
            } else {
                self.writer.object_with(&drawn.label, rle, rle, &more)
            };
            written.map_err(|error| self.target.folder.failed(error))?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: &[String]) -> Result<Vec<String>> {
        let mut file = self.file;
        let finished = self.writer.finish().and_then(|()| file.flush());
        finished.map_err(|error| self.target.folder.failed(error))?;
        let warning = format!(
            "the holes of {} objects are joined to their outlines by cuts of no width, which programs that draw \
             outlines show; COCO with run lengths keeps holes as they are",
            self.cut
        );
        Ok(if self.cut > 0 {
            vec![warning]
        } else {
            Vec::new()
        })
    }
}
