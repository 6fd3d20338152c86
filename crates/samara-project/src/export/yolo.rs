//! Data sets of Ultralytics.

use std::fmt::Write as _;

use crate::Result;
use crate::export::outline;
use crate::export::page::Page;
use crate::export::target::Target;
use crate::export::writer::Writer;

/// `data.yaml`, `images/NAME` and `labels/NAME.txt`.
///
/// Source: the segmentation data set format of Ultralytics.
pub(super) struct Yolo<'a> {
    target: &'a Target<'a>,
    joined: usize,
}

impl<'a> Yolo<'a> {
    pub(super) fn new(target: &'a Target<'a>) -> Self {
        Self { target, joined: 0 }
    }
}

impl Writer for Yolo<'_> {
    fn copy_of(&self, page: &Page<'_>) -> Option<String> {
        Some(page.below("images", &page.file_name()))
    }

    fn write(&mut self, page: &Page<'_>) -> Result<()> {
        let (width, height) = (f64::from(page.size.0), f64::from(page.size.1));
        let mut lines = String::new();
        for drawn in &page.objects {
            let parts = outline::parts(&drawn.mask()?, self.target.options.tolerance);
            let is_joined = parts.len() > 1 || parts.iter().any(|part| !part.holes.is_empty());
            self.joined += usize::from(is_joined);
            lines += &drawn.number.to_string();
            for [x, y] in outline::as_one(&parts) {
                // Writing to a string cannot fail.
                let _ = write!(lines, " {:.6} {:.6}", x / width, y / height);
            }
            lines.push('\n');
        }
        // A file without a line says that there is no object.
        self.target.write(
            &page.below("labels", &format!("{}.txt", page.name)),
            lines.as_bytes(),
        )
    }

    fn finish(self: Box<Self>, labels: &[String]) -> Result<Vec<String>> {
        let mut text = String::from(if self.target.options.validation > 0.0 {
            "train: images/train\nval: images/val\nnames:\n"
        } else {
            "# Both are the same pictures: put those for validation into a folder of their own.\n\
             train: images\nval: images\nnames:\n"
        });
        if labels.is_empty() {
            text = text.replace("names:\n", "names: {}\n");
        }
        for (number, label) in labels.iter().enumerate() {
            // A string of JSON is one of YAML.
            let _ = writeln!(text, "  {number}: {}", serde_json::json!(label));
        }
        self.target.write("data.yaml", text.as_bytes())?;
        let warning = format!(
            "{} objects have holes or several parts, for which the format has no place: they are joined to one polygon \
             by cuts of no width",
            self.joined
        );
        Ok(if self.joined > 0 {
            vec![warning]
        } else {
            Vec::new()
        })
    }
}
