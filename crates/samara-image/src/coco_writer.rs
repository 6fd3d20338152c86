//! COCO's file of annotations, written as its masks come.

use std::io::{self, Write};

use serde::Serialize;

use crate::annotation::Labels;
use crate::rle::Rle;

/// Writes COCO's file of annotations image by image, without holding the masks. They are run lengths, which keep
/// holes and parts.
///
/// Source: the data format page of the COCO data set; ids begin at 1, as pycocotools expects.
///
/// ```
/// use samara_image::{CocoWriter, Mask};
///
/// # fn run() -> std::io::Result<()> {
/// let mut file = Vec::new();
/// let mut coco = CocoWriter::new(&mut file)?;
/// coco.image("photo.jpg", (640, 480));
/// coco.object("dog", Some(0.93), &Mask::full(640, 480).to_rle())?;
/// coco.finish()?;
/// # Ok(())
/// # }
/// # run().unwrap();
/// ```
#[derive(Debug)]
pub struct CocoWriter<W> {
    out: W,
    images: Vec<CocoImage>,
    objects: usize,
    labels: Labels,
    /// The ids of the labels, by their numbers.
    ids: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct CocoImage {
    id: usize,
    file_name: String,
    width: u32,
    height: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    split: Option<String>,
}

#[derive(Serialize)]
struct CocoAnnotation<'a, S, M> {
    id: usize,
    image_id: usize,
    category_id: u64,
    iscrowd: u8,
    bbox: [u32; 4],
    segmentation: &'a S,
    #[serde(flatten)]
    more: &'a M,
}

/// What else is known of an object that a prompt asked for.
#[derive(Serialize)]
struct Known {
    area: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
}

#[derive(Serialize)]
struct CocoCategory<'a> {
    id: u64,
    name: &'a str,
}

impl<W: Write> CocoWriter<W> {
    /// Begins the file.
    ///
    /// # Errors
    /// It cannot be written, as in all other functions.
    pub fn new(mut out: W) -> io::Result<Self> {
        // pycocotools and others look for these two, and are content with nothing in them.
        out.write_all(b"{\"info\":{},\"licenses\":[],\"annotations\":[")?;
        Ok(Self {
            out,
            images: Vec::new(),
            objects: 0,
            labels: Labels::new(),
            ids: Vec::new(),
        })
    }

    /// Begins an image of this width and height in pixels, whose objects come next.
    pub fn image(&mut self, file_name: &str, size: (u32, u32)) {
        self.image_of(None, file_name, size);
    }

    /// The same with the name of the image's split, such as `train`.
    pub fn image_of(&mut self, split: Option<&str>, file_name: &str, (width, height): (u32, u32)) {
        self.images.push(CocoImage {
            id: self.images.len() + 1,
            file_name: file_name.to_owned(),
            width,
            height,
            split: split.map(str::to_owned),
        });
    }

    /// The id of the next object.
    pub fn next_id(&self) -> usize {
        self.objects + 1
    }

    /// Adds an object of the last image: the name of its class, its score, its mask.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn object(&mut self, label: &str, score: Option<f32>, rle: &Rle) -> io::Result<()> {
        let area = rle.area();
        self.object_with(label, rle, rle, &Known { area, score })
    }

    /// The same with run lengths in another form, and further fields.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn object_with(
        &mut self,
        label: &str,
        rle: &Rle,
        segmentation: &impl Serialize,
        more: &impl Serialize,
    ) -> io::Result<()> {
        if self.objects > 0 {
            self.out.write_all(b",\n")?;
        }
        let category_id = self.category_id(label);
        let annotation = CocoAnnotation {
            id: self.next_id(),
            image_id: self.images.len(),
            category_id,
            iscrowd: 0,
            bbox: rle.bbox().map_or([0; 4], |b| b.xywh()),
            segmentation,
            more,
        };
        serde_json::to_writer(&mut self.out, &annotation)?;
        self.objects += 1;
        Ok(())
    }

    /// A class with an id of its own, which the file names even if no object is of it. Others get the next free ids.
    pub fn category(&mut self, id: u64, label: &str) {
        if self.labels.number(label) == self.ids.len() {
            self.ids.push(id);
        }
    }

    fn category_id(&mut self, label: &str) -> u64 {
        let number = self.labels.number(label);
        if number == self.ids.len() {
            let last = self.ids.iter().copied().max().unwrap_or(0);
            self.ids.push(last.saturating_add(1));
        }
        self.ids[number]
    }

    /// Ends the file with its images and classes.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write_all(b"],\n\"images\":")?;
        serde_json::to_writer(&mut self.out, &self.images)?;
        self.out.write_all(b",\n\"categories\":")?;
        let categories = self.ids.iter().zip(self.labels.iter());
        let categories: Vec<_> = categories
            .map(|(&id, name)| CocoCategory { id, name })
            .collect();
        serde_json::to_writer(&mut self.out, &categories)?;
        self.out.write_all(b"}\n")
    }
}
